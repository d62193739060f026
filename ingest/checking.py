"""Validate a client's JSON value: return its Events, or report its errors, up to a limit, in an ApiError."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from marshmallow import ValidationError

from config import Config
from errors import ApiError, field_error
from eventlog import Event, Rejection
from eventlog.times import iso
from ingest.stamping import Stamper
from parsing import json_text
from parsing.json_text import ParsedValue
from parsing.json_values import OVERSIZED
from parsing.timestamps import parse_sent_at
from schemas import BATCH, CALLS, UNTYPED, Call, is_blank

MAX_MESSAGE_ID_LENGTH = 255  # characters
CALLS_BY_FIELD = {"event": "track", "groupId": "group", "previousId": "alias", "name": "page", "properties": "page"}
MAX_ERRORS = 100  # in one answer; after as many, each further item of a batch lists only its first
MAX_ITEM_ERRORS = 10  # listed for a batch item


class RejectedItem(NamedTuple):
    """A batch item that is rejected, and why."""

    position: int  # in the batch, from 0
    item: ParsedValue
    error: ApiError


Checked: TypeAlias = tuple[list[Event], list[RejectedItem]]


class BatchDefaults:
    """What a batch says once for all of its items."""

    def __init__(self, envelope: dict[str, Any]) -> None:
        self.objects = {name: envelope[name] for name in ("context", "integrations") if envelope.get(name)}
        self.sent_at = envelope.get("sentAt") if parse_sent_at(envelope.get("sentAt")) else None

    @cached_property
    def size(self) -> int:
        """Return how many bytes this adds to each item. Raise RecursionError if it is nested too deeply."""
        added = self.objects if self.sent_at is None else {**self.objects, "sentAt": self.sent_at}
        return _json_size(json.dumps(added, ensure_ascii=False)) if added else 0

    def merge_into(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return an item's value with the defaults for what it lacks."""
        for name, default in self.objects.items():
            own = value.get(name)
            if own is None or own == []:
                value = {**value, name: default}
            elif isinstance(own, dict):
                value = {**value, name: {**default, **own}}
        if self.sent_at is not None and not parse_sent_at(value.get("sentAt")):
            value = {**value, "sentAt": self.sent_at}
        return value


NO_DEFAULTS = BatchDefaults({})


class Checker:
    """Checks and stamps the events of one request. Calls `yield_control` during long work."""

    def __init__(self, settings: Config, stamper: Stamper, yield_control: Callable[[], None]) -> None:
        self._settings = settings
        self._stamper = stamper
        self._yield_control = yield_control

    def check_call(
        self, schema: Call, item: ParsedValue, defaults: BatchDefaults = NO_DEFAULTS, max_errors: int = MAX_ERRORS
    ) -> Event:
        """Return the Event of a call. Raise ApiError with at most `max_errors` field errors."""
        value, text, is_checked = item
        check_size(text, self._settings.max_event_bytes - defaults.size)
        if not isinstance(value, dict):
            raise ApiError("event_not_object")
        if json_text.is_too_deep(value, text):
            _raise_first(self._find_defects(value, max_errors))
        codes: dict[str, list[str]] = {}
        try:
            call = schema.load(defaults.merge_into(value))
        except ValidationError as error:
            codes = error.messages_dict
        if _is_too_long(value.get("messageId")):
            codes["messageId"] = ["message_id_too_long"]
        if codes and isinstance(value.get("batch"), list):
            raise ApiError("bad_request", "This is a batch; send it to /v1/batch")
        if not codes:
            try:
                return self._stamper.stamp(schema.call, call, is_checked)
            except ValueError:  # NaN and the like cannot be encoded; `_find_defects` names their fields
                pass
        defects = self._find_defects(value, max_errors)
        defective = {defect["field"] for defect in defects}
        errors = defects + [error for error in _field_errors(codes) if error["field"] not in defective]
        _raise_first(errors[:max_errors])
        raise AssertionError("an event that cannot be encoded has a defect")

    def check_item(self, item: ParsedValue, defaults: BatchDefaults, max_errors: int = MAX_ERRORS) -> Event:
        """Return the Event of a batch item, which names its type."""
        type = _take_type(item.value)
        schema = CALLS.get(type.lower(), UNTYPED) if isinstance(type, str) else UNTYPED
        return self.check_call(schema, item, defaults, max_errors)

    def check_batch(self, envelope: Any, max_item_errors: int = MAX_ITEM_ERRORS) -> Checked:
        """Return the events and the rejected items of a batch. Raise ApiError if it is not a batch."""
        defaults = self._read_defaults(envelope)
        events, rejected, listed_errors = [], [], 0
        for position, item in enumerate(envelope["batch"]):
            try:
                events.append(self.check_item(item, defaults, max_item_errors if listed_errors < MAX_ERRORS else 1))
            except ApiError as error:
                error.__traceback__ = None  # it would keep the frames in memory
                rejected.append(RejectedItem(position, item, error))
                listed_errors += len(error.errors)
            self._yield_control()
        return events, rejected

    def check_body(self, value: Any, text: str, max_item_errors: int = MAX_ITEM_ERRORS) -> Checked:
        """Like `check_batch`, for a body that is a batch, or one call that names its type."""
        if isinstance(value, dict) and "batch" in value:
            return self.check_batch(value, max_item_errors)
        return [self.check_item(ParsedValue(value, text), NO_DEFAULTS)], []

    def _read_defaults(self, envelope: Any) -> BatchDefaults:
        """Return the defaults of a batch. Raise ApiError if it is not a batch, or too large."""
        if not isinstance(envelope, dict):
            raise ApiError("bad_request", 'A batch must be a JSON object: {"batch": [...]}')
        if OVERSIZED in (envelope.get("context"), envelope.get("integrations")):
            raise ApiError("event_too_large", "context or integrations alone is larger than an event may be")
        try:
            defaults = BatchDefaults(BATCH.load(envelope))
        except ValidationError as error:
            errors = _field_errors(error.messages_dict)
            if "batch" not in envelope:
                raise ApiError(
                    "batch_not_list", f"This is one call; send it to {_find_route(envelope)}", errors
                ) from None
            _raise_first(errors)
        _raise_first(self._find_defects(defaults.objects, MAX_ERRORS))  # before their size is taken, which encodes them
        if defaults.size > self._settings.max_event_bytes:
            raise ApiError("event_too_large", "context and integrations alone are larger than an event may be")
        # Each event is stored with the defaults in it. All of them together may be as large as a body.
        if defaults.size * len(envelope["batch"]) > self._settings.max_body_bytes:
            raise ApiError("payload_too_large", "context, integrations and sentAt are too large for so many items")
        return defaults

    def _find_defects(self, value: Any, limit: int) -> list[dict[str, str]]:
        return list(islice(json_text.find_defects(value, self._yield_control), limit))


def _take_type(item: Any) -> Any:
    """Return the type of a batch item, or None.

    Libraries of 2012 to 2014 call it `action`, and the messageId `requestId`. Rename both in the item.
    """
    if not isinstance(item, dict):
        return None
    if item.get("type") is None and item.get("action") is not None:
        item["type"] = item.pop("action")
        if "requestId" in item and is_blank(item.get("messageId")):
            item["messageId"] = item.pop("requestId")
    return item.get("type")


def make_rejection(
    source_name: str, received_at: datetime, route: str, error: ApiError, content: bytes, is_cut: bool = False
) -> Rejection:
    """Return what the log keeps of a rejected body or batch item."""
    return Rejection(
        source=source_name,
        received_at=iso(received_at),
        route=route,
        code=error.code,
        message=error.message,
        errors=json.dumps(error.errors),
        body=content,
        cut=is_cut,
    )


def check_size(text: str, limit: int) -> None:
    """Raise ApiError if an event's JSON text has more than `limit` bytes."""
    if _json_size(text) > limit:
        raise ApiError("event_too_large", f"An event may have at most {limit} bytes")


def _json_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _find_route(call: dict[str, Any]) -> str:
    """Return the route of a call that was sent to that of a batch, by its type or its fields."""
    type = str(call.get("type")).lower()
    if type not in CALLS:
        type = next((name for field, name in CALLS_BY_FIELD.items() if field in call), "identify")
    return f"/v1/{type}"


def _is_too_long(message_id: Any) -> bool:
    text = str(message_id) if isinstance(message_id, (str, int, float)) else ""
    return len(text) > MAX_MESSAGE_ID_LENGTH and bool(text.strip())  # a blank one means absent


def _field_errors(codes_by_field: dict[str, list[str]]) -> list[dict[str, str]]:
    return [field_error(field, code) for field, codes in codes_by_field.items() for code in codes]


def _raise_first(errors: list[dict[str, str]]) -> None:
    """Raise ApiError with the first error's code, if there are any."""
    if errors:
        raise ApiError(errors[0]["code"], errors[0]["message"], errors)
