"""From a client's JSON value to the event that the log keeps, or to every reason why it cannot."""

import json
from contextlib import suppress
from itertools import islice

from marshmallow import ValidationError

from errors import ApiError, field_error
from eventlog import Event, Rejection
from eventlog.times import iso
from ingest.message_ids import make_message_id
from parsing import json_batch, json_text
from parsing.json_values import OVERSIZED
from parsing.timestamps import parse_timestamp
from schemas import BATCH, CALLS, UNTYPED

MAX_ERRORS = 100  # listed of a call, of a body that is validated, and of a batch before each item has only its first
MAX_ITEM_ERRORS = 10  # of an item of a batch
TITLES = {"track": "event", "page": "name", "screen": "name"}  # the field that the log's column `name` shows


def _time(value):
    """Return the time that `value` gives, or None where there is none that can be read."""
    if value is not None:
        with suppress(ValueError):
            return parse_timestamp(value).utc


class Defaults:
    """What a batch says once for all of its items: context, integrations, sentAt."""

    def __init__(self, context=None, integrations=None, sent_at=None):
        self.objects = {name: each for name, each in (("context", context), ("integrations", integrations)) if each}
        self.sent_at = sent_at if _time(sent_at) else None
        added = self.objects if self.sent_at is None else {**self.objects, "sentAt": self.sent_at}
        self.size = _size(json.dumps(added, ensure_ascii=False)) if added else 0

    def under(self, value):
        """Return an item's value with the defaults under its own."""
        for name, default in self.objects.items():
            own = value.get(name)
            if own is None or own == []:
                value = {**value, name: default}
            elif isinstance(own, dict):
                value = {**value, name: {**default, **own}}
        if self.sent_at is not None and not _time(value.get("sentAt")):
            value = {**value, "sentAt": self.sent_at}
        return value


NO_DEFAULTS = Defaults()


class Checker:
    """Checks what one request brings: from this source, at this time, within the limits of the settings."""

    def __init__(self, settings, source_name, received_at, requester, pause, make_id=make_message_id):
        self.settings = settings
        self.source_name = source_name
        self.received_at = received_at
        self.received_at_text = iso(received_at)
        self.requester = requester
        self.pause = pause  # called in what may take long, to let other requests run
        self.make_id = make_id  # a messageId for an event that has none

    def check_call(self, schema, item, defaults=NO_DEFAULTS, max_errors=MAX_ERRORS):
        """Return the Event that `item` stands for; raise ApiError with the fields at fault, at most `max_errors`."""
        value, text = item
        refuse_too_large(text, self.settings.max_event_bytes - defaults.size)
        if not isinstance(value, dict):
            raise ApiError("event_not_object")
        if json_text.is_too_deep(value, text):
            _refuse_for(self._faults(value, max_errors))
        codes = {}
        try:
            event = schema.load(defaults.under(value))
        except ValidationError as error:
            codes = error.messages
        if self._is_too_long(value.get("messageId")):
            codes["messageId"] = ["message_id_too_long"]
        if not codes:
            with suppress(json_text.Unencodable):
                return self._stamped(schema.call, event)
        faults = self._faults(value, max_errors)
        faulty = {fault["field"] for fault in faults}
        errors = faults + [error for error in _field_errors(codes) if error["field"] not in faulty]
        _refuse_for(errors[:max_errors])

    def check_item(self, item, defaults, max_errors=MAX_ERRORS):
        """Return the Event that an item of a batch stands for, as a call of the type that it names."""
        type = item.value.get("type") if isinstance(item.value, dict) else None
        schema = CALLS.get(type.lower(), UNTYPED) if isinstance(type, str) else UNTYPED
        return self.check_call(schema, item, defaults, max_errors)

    def check_batch(self, envelope, max_item_errors=MAX_ITEM_ERRORS):
        """Return the events of a batch, and for each item that is refused its index, the item and why.

        Raises ApiError for what is no batch.
        """
        defaults = self.check_envelope(envelope)
        events, refusals, listed = [], [], 0
        for index, item in enumerate(envelope["batch"]):
            try:
                events.append(self.check_item(item, defaults, max_item_errors if listed < MAX_ERRORS else 1))
            except ApiError as refusal:
                refusals.append((index, item, refusal.with_traceback(None)))  # which keeps the frames in memory
                listed += len(refusal.errors)
            self.pause()
        return events, refusals

    def check_body(self, value, text, max_item_errors=MAX_ITEM_ERRORS):
        """Return the same of a body that is a batch, or one call that says its type."""
        if isinstance(value, dict) and "batch" in value:
            return self.check_batch(value, max_item_errors)
        return [self.check_item(json_batch.ParsedValue(value, text), NO_DEFAULTS)], []

    def check_envelope(self, envelope):
        """Return the defaults of a batch; raise ApiError for what is no batch or too much of one."""
        if not isinstance(envelope, dict):
            raise ApiError("bad_request", "A batch must be a JSON object")
        if OVERSIZED in (envelope.get("context"), envelope.get("integrations")):
            raise ApiError("event_too_large", "context or integrations alone is larger than an event may be")
        try:
            known = BATCH.load(envelope)
        except ValidationError as error:
            _refuse_for(_field_errors(error.messages))
        items = len(envelope["batch"])
        defaults = Defaults(known.get("context"), known.get("integrations"), envelope.get("sentAt"))
        if defaults.size > self.settings.max_event_bytes:
            raise ApiError("event_too_large", "context and integrations alone are larger than an event may be")
        _refuse_for(self._faults(defaults.objects, MAX_ERRORS))
        # Every item is stored with the defaults in it. What is stored so may be as much as a body could bring.
        if defaults.size * items > self.settings.max_body_bytes:
            raise ApiError("payload_too_large", "context, integrations and sentAt are too large for so many items")
        return defaults

    def _faults(self, value, limit):
        return list(islice(json_text.find_defects(value, self.pause), limit))

    def _is_too_long(self, message_id):
        if not isinstance(message_id, (str, int, float)):
            return False
        text = str(message_id)
        return len(text) > self.settings.max_message_id_length and bool(text.strip())  # a blank one means absent

    def _stamped(self, type, event):
        original, timestamp = self._times(event)
        message_id = event.get("messageId") or str(self.make_id())
        event.pop("writeKey", None)
        self._add_address(event)
        payload = {
            "type": type,
            "messageId": message_id,
            **event,
            "originalTimestamp": original,
            "timestamp": timestamp,
            "receivedAt": self.received_at_text,
        }
        return Event(
            source=self.source_name,
            message_id=message_id,
            type=type,
            user_id=event.get("userId"),
            anonymous_id=event.get("anonymousId"),
            name=event.get(TITLES.get(type)),
            timestamp=timestamp,
            received_at=self.received_at_text,
            payload=json_text.encode(payload),
        )

    def _add_address(self, event):
        """Set context.ip where the client is the user's own device: a page, or one that says so with context.direct."""
        context = event.get("context") or {}
        if (self.requester.is_page or context.get("direct") is True) and not context.get("ip"):
            address = self.requester.address
            if address:
                event["context"] = {**context, "ip": address}

    def _times(self, event):
        """Return originalTimestamp as the client wrote it, and timestamp, corrected for the client's clock.

        The rule is the Segment specification's: timestamp = receivedAt - (sentAt - originalTimestamp). An event
        that has both was corrected where it was received first.
        """
        original, timestamp = event.pop("originalTimestamp", None), event.pop("timestamp", None)
        if original and timestamp:
            return original.original, iso(timestamp.utc)
        happened = original or timestamp
        if not happened:
            return self.received_at_text, self.received_at_text
        sent = _time(event.get("sentAt"))
        with suppress(OverflowError):  # a correction out of the years 1 to 9999 is none
            return happened.original, iso(self.received_at - (sent - happened.utc) if sent else happened.utc)
        return happened.original, iso(happened.utc)


def rejected(source_name, received_at, route, refusal, content, is_cut=False):
    """Return what the log keeps of a refused body, or of a refused item of one."""
    return Rejection(
        source=source_name,
        received_at=iso(received_at),
        route=route,
        code=refusal.code,
        message=refusal.message,
        errors=json.dumps(refusal.errors),
        body=content,
        cut=is_cut,
    )


def refuse_too_large(text, limit):
    """Refuse an event whose JSON text has more bytes than `limit`."""
    if _size(text) > limit:
        raise ApiError("event_too_large", f"An event may have {limit} bytes")


def _size(text):
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _field_errors(messages):
    return [field_error(field, code) for field, codes in messages.items() for code in codes]


def _refuse_for(errors):
    if errors:
        raise ApiError(errors[0]["code"], errors[0]["message"], errors)
