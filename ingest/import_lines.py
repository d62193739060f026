"""From a line of `flask events export` to the event that it was written from, or to the reason why it is none."""

from marshmallow import ValidationError

from errors import ApiError
from eventlog import Event, NotPossible
from eventlog.sources import check_name
from eventlog.times import iso
from ingest.checking import TITLES
from parsing import json_batch, json_text
from parsing.json_batch import ParsedValue
from parsing.timestamps import parse_timestamp
from schemas import CALLS

MOST_ID = 2**53  # beyond, JSON numbers are not exact everywhere, and ids would come to their end
NEXT_ID = 0  # never above those that a log has used, so that it gives the next one


def read_line(line):
    """Return the id and the Event of a line, its payload to the letter; raise ApiError or NotPossible."""
    members = json_batch.parse_members(json_text.decode(line.strip()))
    id, source, event = (members.get(name, ParsedValue(None, "")) for name in ("id", "source", "event"))
    if type(id.value) is not int or id.value <= 0:
        raise NotPossible("It needs an id, a whole number")
    if not isinstance(source.value, str):
        raise NotPossible("It needs a source, the name of one")
    check_name(source.value)
    return id.value if id.value < MOST_ID else NEXT_ID, _stored(source.value, *event)


def _stored(source, event, text):
    """Return the Event of a payload that a log has stamped before, checked as if it came in a call."""
    if not isinstance(event, dict):
        raise ApiError("event_not_object")
    for fault in json_text.find_defects(event, pause=lambda: None):
        raise ApiError(fault["code"])
    schema = CALLS.get(str(event.get("type")))
    if not schema:
        raise ApiError("unknown_type")
    try:
        checked = schema.load(event)
    except ValidationError as error:
        raise ApiError(next(iter(error.messages.values()))[0]) from None
    for name in ("timestamp", "receivedAt"):
        if not _is_stamp(event.get(name)):
            raise NotPossible(f"Its {name} must be as a log writes it: of UTC, to the millisecond, ending in Z")
    if "messageId" not in checked:
        raise NotPossible("It needs a messageId")
    return Event(
        source=source,
        message_id=checked["messageId"],
        type=schema.call,
        user_id=checked.get("userId"),
        anonymous_id=checked.get("anonymousId"),
        name=checked.get(TITLES.get(schema.call)),
        timestamp=event["timestamp"],
        received_at=event["receivedAt"],
        payload=text,
    )


def _is_stamp(time):
    try:
        return iso(parse_timestamp(time).utc) == time
    except ValueError:
        return False
