"""Turn a valid call into the Event that the log stores: set its type, messageId, times and address."""

import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from eventlog import NAME_FIELDS, Event
from eventlog.sources import Source, Sources
from eventlog.times import iso
from ingest.auth import is_key_of
from ingest.client_address import Client
from parsing import json_text
from parsing.timestamps import parse_sent_at

MAX_TICKS_AHEAD = 4096 * 1000  # a second; if the last id is further ahead of the clock, the clock was set back

_last_tick = 0  # the time of the latest messageId made here, in ticks of 1/4096 ms


class Stamper:
    """Stamps the events of one request. `make_id` makes the messageId of an event that has none."""

    def __init__(
        self, source: Source, sources: Sources, received_at: datetime, client: Client, make_id: Callable[[], UUID]
    ) -> None:
        self._source = source
        self._sources = sources
        self._received_at = received_at
        self._received_at_text = iso(received_at)
        self._client = client
        self._make_id = make_id

    def stamp(self, type: str, call: dict[str, Any], is_checked: bool) -> Event:
        """Return the Event of a call that its schema has loaded. Raise ValueError if it is not JSON.

        `is_checked` is that of the ParsedValue.
        """
        original, timestamp = self._take_times(call)
        if "messageId" not in call:
            call["messageId"] = str(self._make_id())
        call.pop("writeKey", None)
        if "secret" in call and is_key_of(self._source, call["secret"], self._sources):
            del call["secret"]
        self._add_address(call)
        payload = {
            "type": type,
            "messageId": call["messageId"],
            **call,
            "originalTimestamp": original,
            "timestamp": timestamp,
            "receivedAt": self._received_at_text,
        }
        text = json_text.encode(payload, is_checked=is_checked)
        return make_event(self._source.name, type, call, timestamp, self._received_at_text, text)

    def _add_address(self, call: dict[str, Any]) -> None:
        """Set context.ip if the client is the user's own device: a web page, or one with context.direct."""
        context = call.get("context") or {}
        if (self._client.is_page or context.get("direct") is True) and not context.get("ip"):
            address = self._client.address
            if address:
                call["context"] = {**context, "ip": address}

    def _take_times(self, call: dict[str, Any]) -> tuple[str | int | float, str]:
        """Remove the call's times. Return originalTimestamp as sent, and timestamp corrected for the client's clock.

        The rule is the Segment specification's: timestamp = receivedAt - (sentAt - originalTimestamp). An event
        with both was corrected by the server that received it first.
        """
        original, timestamp = call.pop("originalTimestamp", None), call.pop("timestamp", None)
        if original and timestamp:
            return original.original, iso(timestamp.utc)
        happened = original or timestamp
        if not happened:
            return self._received_at_text, self._received_at_text
        sent_at = parse_sent_at(call.get("sentAt"))
        if sent_at:
            try:
                return happened.original, iso(self._received_at - (sent_at - happened.utc))
            except OverflowError:  # a correction that leaves the years 1 to 9999 is not applied
                pass
        return happened.original, iso(happened.utc)


def make_event(source: str, type: str, call: dict[str, Any], timestamp: str, received_at: str, payload: str) -> Event:
    """Return the Event of a call that has a messageId."""
    name = call.get(NAME_FIELDS[type]) if type in NAME_FIELDS else None
    return Event(
        source=source,
        message_id=call["messageId"],
        type=type,
        user_id=call.get("userId"),
        anonymous_id=call.get("anonymousId"),
        name=name and json_text.replace_surrogates(name),
        timestamp=timestamp,
        received_at=received_at,
        payload=payload,
    )


def make_message_id() -> UUID:
    """Return a UUID of version 7. Ids grow within a process, unless the clock is set back by more than a second.

    The 12 bits after the milliseconds are a fraction of a millisecond (RFC 9562, section 6.2, method 3). If two ids
    have the same tick, the second gets the next tick, so that they have an order. The other 62 bits are random, from
    the system: workers share no state after a fork.
    """
    global _last_tick
    now = time.time_ns() * 4096 // 1_000_000
    _last_tick = now if now > _last_tick or now < _last_tick - MAX_TICKS_AHEAD else _last_tick + 1
    milliseconds, fraction = divmod(_last_tick, 4096)
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62))
