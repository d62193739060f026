"""Turn a valid call into the Event that the log stores: set its type, messageId, times and address."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from eventlog import Event
from eventlog.times import iso
from ingest.client_address import Client
from parsing import json_text
from parsing.timestamps import parse_sent_at

NAME_FIELDS = {"track": "event", "page": "name", "screen": "name"}  # the field in the log's column `name`


def name_of(type: str, call: dict[str, Any]) -> str | None:
    """Return what the log shows as the event's name."""
    return call.get(NAME_FIELDS[type]) if type in NAME_FIELDS else None


class Stamper:
    """Stamps the events of one request."""

    def __init__(
        self, source_name: str, received_at: datetime, client: Client, make_message_id: Callable[[], UUID]
    ) -> None:
        self._source_name = source_name
        self._received_at = received_at
        self._received_at_text = iso(received_at)
        self._client = client
        self._make_message_id = make_message_id

    def stamp(self, type: str, call: dict[str, Any]) -> Event:
        """Return the Event of a call that its schema has loaded. Raise Unencodable if it is not JSON."""
        original, timestamp = self._take_times(call)
        message_id = call.get("messageId") or str(self._make_message_id())
        call.pop("writeKey", None)
        self._add_address(call)
        payload = {
            "type": type,
            "messageId": message_id,
            **call,
            "originalTimestamp": original,
            "timestamp": timestamp,
            "receivedAt": self._received_at_text,
        }
        return Event(
            source=self._source_name,
            message_id=message_id,
            type=type,
            user_id=call.get("userId"),
            anonymous_id=call.get("anonymousId"),
            name=name_of(type, call),
            timestamp=timestamp,
            received_at=self._received_at_text,
            payload=json_text.encode(payload),
        )

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
            with suppress(OverflowError):  # a correction that leaves the years 1 to 9999 is not applied
                return happened.original, iso(self._received_at - (sent_at - happened.utc))
        return happened.original, iso(happened.utc)
