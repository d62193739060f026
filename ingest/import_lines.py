"""Turn a line of `tracklog events export` back into its Event."""

from typing import Any

from marshmallow import ValidationError

from errors import ApiError
from eventlog import Event, NotPossible
from eventlog.sources import check_name
from eventlog.times import iso
from ingest.stamping import make_event
from parsing import json_batch, json_text
from parsing.json_batch import ParsedValue
from parsing.timestamps import parse_time_or_none
from schemas import CALLS

MAX_ID = 2**53  # larger JSON numbers are not exact in every reader, and would use up the ids
NEXT_ID = 0  # makes the log assign its next id


def read_line(line: bytes) -> tuple[int, Event]:
    """Return the id and the Event of a line. Only old names change in its payload. Raise ApiError or NotPossible."""
    members = json_batch.parse_members(json_text.decode(line.strip()))
    id, source, event = (members.get(name, ParsedValue(None, "")) for name in ("id", "source", "event"))
    if type(id.value) is not int or id.value <= 0:
        raise NotPossible("The line needs an id, a whole number")
    if not isinstance(source.value, str):
        raise NotPossible("The line needs the name of a source")
    check_name(source.value)
    return id.value if id.value < MAX_ID else NEXT_ID, _check_event(source.value, *event)


def _check_event(source: str, event: Any, text: str) -> Event:
    """Return the Event of a payload that a log has stamped. Check it like a call's."""
    if not isinstance(event, dict):
        raise ApiError("event_not_object")
    for defect in json_text.find_defects(event, yield_control=lambda: None):
        raise ApiError(defect["code"])
    schema = CALLS.get(str(event.get("type")))
    if not schema:
        raise ApiError("unknown_type")
    renamed = schema.rename_old_spellings(event)
    try:
        call = schema.load(renamed)
    except ValidationError as error:
        raise ApiError(next(iter(error.messages_dict.values()))[0]) from None
    for name in ("timestamp", "receivedAt"):
        utc = parse_time_or_none(event.get(name))
        if utc is None or iso(utc) != event[name]:
            raise NotPossible(f"The event's {name} must be as a log writes it: in UTC, with milliseconds, ending in Z")
    if "messageId" not in call:
        raise NotPossible("The event needs a messageId")
    is_as_stored = renamed is event and not json_text.has_lone_surrogates(event, text)
    payload = text if is_as_stored else json_text.encode(renamed)
    return make_event(source, schema.call, call, event["timestamp"], event["receivedAt"], payload)
