"""Give what was refused a second chance, on the way that a POST goes."""

from datetime import datetime
from uuid import UUID, uuid5

from errors import ApiError
from eventlog import NotPossible
from ingest.checking import Checker, refuse_too_large, rejected
from ingest.client_address import Requester
from parsing import json_text
from parsing.json_text import Item
from schemas import CALLS

SHORT = {name[0]: schema for name, schema in CALLS.items()}  # /v1/t and the like


def replay(log, settings, rejection, body=None):
    """Store what a kept body says, or the mended `body` in its place; return the event's id and whether it is new.

    It is received when it was received first. Raises ApiError for what is still at fault, NotPossible for what
    cannot be replayed so, and the log's Unavailable.
    """
    if rejection.cut and body is None:
        raise NotPossible("Only the beginning of this body was kept. Give the whole with --body")
    source = log.sources.named(rejection.source)
    if not source.enabled:
        raise ApiError("source_disabled")
    received_at = datetime.fromisoformat(rejection.received_at)
    checker = Checker(settings, source.name, received_at, Requester({}, settings), _go_on, _ids(rejection.digest))
    text = json_text.decode(rejection.body if body is None else body)
    events, refusals = _check(checker, rejection.route, text, settings)
    if not events:
        raise refusals[0][2]
    again = [
        rejected(source.name, received_at, rejection.route, refusal, json_text.ascii_escaped(item.text, _go_on))
        for _, item, refusal in refusals
    ]
    are_new = log.append(events, again)
    return log.rejections.mark_replayed(rejection.id, events), any(are_new)


def _check(checker, route, text, settings):
    """Return the events of a body and its refusals, by what the route that it came by takes."""
    kind = route.rpartition("/")[2].lower()
    schema = CALLS.get(kind) or SHORT.get(kind)
    if not schema:  # a batch, or an item of one
        value = json_text.parse_batch(text, settings.max_batch_events, settings.max_event_bytes, _go_on)
        return checker.check_body(value, text)
    refuse_too_large(text, settings.max_event_bytes)
    return [checker.check_call(schema, Item(json_text.parse(text), text))], []


def _go_on():
    """Do nothing in the place of a pause: a command holds up nobody."""


def _ids(digest):
    """Return a maker of messageIds for events that have none: each time the same, so that they are stored once."""
    numbers = iter(range(1_000_000))
    return lambda: uuid5(UUID(digest), str(next(numbers)))
