"""Deliver events as their destination wants them: transformed, then masked."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, cast

from eventlog import NAME_FIELDS, NotPossible, StoredEvent
from eventlog.dead_letters import TRANSFORM_FAILED
from eventlog.times import iso
from parsing import json_text
from parsing.timestamps import parse_timestamp

from .delivery import Deliverer, Outcome, RetryLater
from .event_rules import FIXED_FIELDS, EventRules
from .masking import Mask
from .threads import run_in_thread
from .transforms import Transform, TransformFile, describe_error

MAX_EVENT_BYTES = 512 * 1024  # of a transformed event, unless it was larger before
PATIENCE_SECONDS = 30.0  # for the transform of a batch, before the attempt counts as failed
CHECK_SECONDS = 0.2  # between two checks for `abort` while a transform runs


def open_prepared(rules: EventRules, open_deliverer: Callable[[], Deliverer]) -> Deliverer:
    """Open a deliverer, and return one that prepares its events by these rules.

    Raises NotPossible, before it is opened, if there is no such transform or no key for the mask.
    """
    if not (rules.transform or rules.mask):
        return open_deliverer()
    return cast(Deliverer, _PreparingDeliverer(rules, open_deliverer))


class Unfit(Exception):
    """Raised if a transform fails, or returns something else than an event that can be delivered."""


@dataclass
class _Batch:
    """A batch as its destination gets it."""

    parts: deque[list[StoredEvent]] = field(default_factory=deque)  # what is left to deliver
    rejected: dict[int, tuple[str, str]] = field(default_factory=dict)  # as in Outcome
    dropped: int = 0
    is_answer: bool = False


class _PreparingDeliverer:
    """Prepares events for another deliverer, so that none reaches a destination unprepared.

    The forwarder only sees the log's own events: a dead letter holds one, and a replay prepares it again.
    """

    def __init__(self, rules: EventRules, open_deliverer: Callable[[], Deliverer]) -> None:
        self._mask = Mask(rules.mask)
        self._file = TransformFile(rules.transform) if rules.transform else None
        self._transform = self._file.load() if self._file else None
        self._work: tuple[Sequence[StoredEvent], Future[_Batch]] | None = None
        self._aborted = False
        self._deliverer = open_deliverer()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._deliverer, name)

    def deliver(self, events: Sequence[StoredEvent]) -> Outcome:
        batch = self._prepare(events)
        index_of = {event.id: index for index, event in enumerate(events)}
        while batch.parts:
            part = batch.parts[0]
            rejected = self._deliverer.deliver(part).rejected
            batch.parts.popleft()  # a retry goes on with the next one
            batch.rejected |= {index_of[part[index].id]: why for index, why in rejected.items()}
            batch.is_answer = True
        self._work = None
        return Outcome(batch.rejected, batch.dropped, batch.is_answer)

    def abort(self) -> bool:
        self._aborted = True
        return self._deliverer.abort()

    def _prepare(self, events: Sequence[StoredEvent]) -> _Batch:
        """Return the batch for these events. A retry gets the same one, unless the transform's file has changed.

        A thread does the work, so that a transform that never returns does not stop the forwarder from ending. A retry
        waits for the same thread.
        """
        self._reload()
        if self._work is None or self._work[0] != events:
            self._work = events, run_in_thread(partial(self._change_all, events, self._transform))
        until = monotonic() + PATIENCE_SECONDS
        while not wait([self._work[1]], CHECK_SECONDS).done:
            if self._aborted:
                raise RetryLater("the delivery was aborted")
            if monotonic() >= until:
                raise RetryLater(f"the transform has not returned after {PATIENCE_SECONDS:.0f} s")
        return self._work[1].result()

    def _reload(self) -> None:
        try:
            transform = self._file.load() if self._file else None
        except NotPossible as failure:
            raise RetryLater(str(failure)) from failure
        if transform is not self._transform:
            self._transform, self._work = transform, None

    def _change_all(self, events: Sequence[StoredEvent], transform: Transform | None) -> _Batch:
        batch, changed = _Batch(), []
        for index, event in enumerate(events):
            try:
                fields = _apply(transform, event) if transform else json.loads(event.payload)
                if fields is None:
                    batch.dropped += 1
                    continue
                self._mask.hide_fields(fields)
                changed.append(_with_fields(event, fields))
            except Unfit as failure:
                reason = json_text.replace_surrogates(str(failure))
                batch.rejected[index] = TRANSFORM_FAILED, reason
        batch.parts.extend(_cut(changed, self._deliverer.max_bytes))
        return batch


def _apply(transform: Transform, event: StoredEvent) -> dict[str, Any] | None:
    """Return the fields of a transformed event, or None if it is dropped. Raises Unfit."""
    fields = json.loads(event.payload)
    fixed = [fields.get(name) for name in FIXED_FIELDS]
    try:
        returned = transform(fields)
        if returned is None:
            return None
        text = json_text.encode(returned)
        changed = json.loads(text)  # free of what only Python has, and of ties to the transform
    except BaseException as error:  # also SystemExit
        raise Unfit(describe_error(error)) from error
    if not isinstance(changed, dict):
        raise Unfit("the transform returned neither an event nor None")
    if json_text.is_too_deep(changed, text):
        raise Unfit("the transform returned an event that is nested too deeply")
    if len(text.encode()) > max(MAX_EVENT_BYTES, len(event.payload.encode())):
        raise Unfit(f"the transform returned an event of more than {MAX_EVENT_BYTES} bytes")
    for name, value in zip(FIXED_FIELDS, fixed, strict=True):
        if changed.get(name) != value:
            raise Unfit(f"the transform changed {name}")
    return changed


def _with_fields(event: StoredEvent, fields: dict[str, Any]) -> StoredEvent:
    """Return a row whose columns fit these fields. Times that are missing stay in the columns. Raises Unfit."""
    texts = {"user_id": "userId", "anonymous_id": "anonymousId"}
    if event.type in NAME_FIELDS:
        texts["name"] = NAME_FIELDS[event.type]
    columns: dict[str, Any] = {column: fields.get(name) for column, name in texts.items()}
    for column, text in columns.items():
        if not isinstance(text, str | None):
            raise Unfit(f"the transform returned a {texts[column]} that is not a text")
    for column, name in (("timestamp", "timestamp"), ("received_at", "receivedAt")):
        if fields.get(name) not in (None, getattr(event, column)):
            try:
                columns[column] = iso(parse_timestamp(fields[name]).utc)
            except ValueError as error:
                raise Unfit(f"the transform returned a {name} that is not a time") from error
    return event._replace(payload=json_text.encode(fields), **columns)


def _cut(events: Sequence[StoredEvent], max_bytes: int) -> Iterator[list[StoredEvent]]:
    """Yield the events in batches of at most `max_bytes`, since a transform may have made them larger."""
    batch: list[StoredEvent] = []
    size = 0
    for event in events:
        length = len(event.payload.encode())
        if batch and size + length > max_bytes:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += length
    if batch:
        yield batch
