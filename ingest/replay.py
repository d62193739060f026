"""Try a rejected body again, in the same way as a POST."""

from collections.abc import Callable
from datetime import datetime
from itertools import count
from uuid import UUID, uuid5

from config import Config
from errors import ApiError
from eventlog import EventLog, NotPossible
from eventlog.rejections import StoredRejection
from ingest.body import decode_form
from ingest.checking import Checked, Checker, check_size, make_rejection
from ingest.client_address import Client
from ingest.stamping import Stamper
from parsing import json_batch, json_text
from schemas import CALLS

SHORT_ROUTES = {name[0]: schema for name, schema in CALLS.items()}  # /v1/t and the like


def replay(log: EventLog, settings: Config, rejection: StoredRejection, body: bytes | None = None) -> tuple[int, bool]:
    """Store the events of a rejected body, or of the fixed `body`. Return the event's id and whether one is new.

    The events keep the time when the body was received. Raises ApiError if no event is valid, NotPossible if only
    the beginning of the body was kept, and Unavailable.
    """
    if rejection.cut and body is None:
        raise NotPossible("Only the beginning of this body was kept. Give the whole body with --body")
    source = log.sources.named(rejection.source)
    if not source.enabled:
        raise ApiError("source_disabled")
    received_at = datetime.fromisoformat(rejection.received_at)
    stamper = Stamper(source, log.sources, received_at, Client({}, settings), _id_maker(rejection.digest))
    checker = Checker(settings, stamper, _do_not_yield)
    content = decode_form(rejection.body if body is None else body, True, _do_not_yield)
    text = json_text.decode(content)
    events, rejected = _check(checker, rejection.route, text, settings)
    if not events:
        raise rejected[0].error
    again = [
        make_rejection(
            source.name, received_at, rejection.route, error, json_text.escape_non_ascii(item.text, _do_not_yield)
        )
        for _, item, error in rejected
    ]
    are_new = log.append(events, again)
    return log.rejections.mark_replayed(rejection.id, events), any(are_new)


def _check(checker: Checker, route: str, text: str, settings: Config) -> Checked:
    """Return the events and the rejected items of a body, which depend on its route."""
    name = route.rpartition("/")[2].lower()
    schema = CALLS.get(name) or SHORT_ROUTES.get(name)
    if not schema:  # a batch, or an item of one
        limits = settings.max_batch_events, settings.max_event_bytes
        return checker.check_body(json_batch.parse_batch(text, *limits, _do_not_yield), text)
    check_size(text, settings.max_event_bytes)
    return [checker.check_call(schema, json_text.parse(text))], []


def _do_not_yield() -> None:
    """Do nothing: a command delays no requests."""


def _id_maker(digest: str) -> Callable[[], UUID]:
    """Return a function that makes the same messageIds at each replay, so that their events are stored once."""
    numbers = count()
    return lambda: uuid5(UUID(digest), str(next(numbers)))
