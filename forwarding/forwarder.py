"""Deliver to one destination: the log's events in order, or given events once more."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from eventlog import DeadLetter, Destination, EventLog, NotPossible, StoredEvent, Unavailable
from telemetry.storage_trouble import StorageTrouble

from . import lock, urls
from .attempts import MAX_TRIES_ONCE, Attempts
from .batches import BatchReader
from .delivery import Deliverer
from .open_destination import Interrupted, OpenDestination, Refusing, Removed, find, opened
from .splitting import GIVE_UP_SECONDS, Splitter

POLL_SECONDS = 0.5  # between two looks at the log while nothing waits
PROBED_EVENTS, PROBED_BYTES = 1000, 10_000_000  # among which a refusing destination may take one


@dataclass
class Forwarder:
    """Delivers to one destination: read a batch, deliver it, advance the cursor.

    The cursor advances only after the destination has acknowledged or rejected the events, so a forwarder that is
    killed skips nothing. `report` is called after each batch with the number of ids that the cursor has advanced.
    """

    log: EventLog
    name: str
    stop: threading.Event
    once: bool = False
    give_up_after: float = GIVE_UP_SECONDS
    report: Callable[[int], object] = lambda advanced: None
    open_deliverer: Callable[[str, Mapping[str, str]], Deliverer] = urls.open_deliverer

    def run(self) -> bool:
        """Deliver until `stop` is set, or with `once` until nothing can be delivered.

        Ends early if the destination is changed, removed, or paused during a delivery. Return True if nothing is left.
        Raises NotPossible if another forwarder delivers to the destination, or if it cannot be opened.
        """
        try:
            with lock.exclusive(self.log.path, self.name):
                row = find(self.log, self.name)
                with opened(self.log, row, self.stop, self.open_deliverer) as destination:
                    return self._run(destination)
        except Removed:
            lock.discard(self.log.path, self.name)
        except Interrupted:
            pass
        return False

    def _run(self, destination: OpenDestination) -> bool:
        trouble = StorageTrouble(self.name, quiet_seconds=0)
        attempts = Attempts(destination, destination.check, MAX_TRIES_ONCE if self.once else inf)
        splitter = Splitter(destination, attempts, self.give_up_after)
        with closing(BatchReader(self.log, destination.deliverer, waits=not self.once)) as batches:
            while not self.stop.is_set():
                try:
                    has_advanced = self._deliver_next(destination, batches, splitter)
                    trouble.note_success()
                    if not has_advanced:
                        if self.once:
                            return self.log.reader.last_id() <= destination.reload().position
                        self.stop.wait(POLL_SECONDS)
                except Unavailable as failure:
                    trouble.note_failure(failure)
                    self.stop.wait(POLL_SECONDS)
        return False

    def _deliver_next(self, destination: OpenDestination, batches: BatchReader, splitter: Splitter) -> bool:
        """Deliver the next batch; return False if there is none."""
        row = destination.reload()
        if row.paused:
            return False
        if row.state == "refusing":
            return self._probe(destination, row, splitter)
        events = batches.read_next(row)
        if not events:
            if row.reserved is None:
                destination.forget_failures()  # nothing is left that could fail
                return False
            destination.advance(row.reserved)  # every event of the unfinished batch was deleted by `events forget`
            return True
        last = events[-1].id
        if destination.deliverer.needs_same_batches and row.reserved is None:
            destination.note_batch_end(last)
        with suppress(Refusing):
            splitter.deliver([event for event in events if destination.wants(event)], destination.advance)
            destination.advance(last)
            self.report(last - row.position)
        return True

    def _probe(self, destination: OpenDestination, row: Destination, splitter: Splitter) -> bool:
        """Try whether a refusing destination takes an event now; return False if there is none."""
        events = self.log.reader.read_next(row.position, PROBED_EVENTS, PROBED_BYTES)
        wanted = [event for event in events if destination.wants(event)]
        if wanted:
            splitter.probe(wanted, destination.advance)
        elif events:
            destination.advance(events[-1].id)
        else:
            destination.forget_failures()
        return bool(events)


class Redelivered(NamedTuple):
    """The result of a delivery by hand."""

    delivered: int
    done: list[int]  # the ids of the events delivered, or dropped by the transform
    dead: list[DeadLetter]
    answer: str  # the last one; empty if the destination's protocol has none


def redeliver(
    log: EventLog, name: str, events: Sequence[StoredEvent], max_tries: float = MAX_TRIES_ONCE
) -> Redelivered:
    """Deliver the events that the destination wants.

    The cursor stays, and the destination may be paused. Takes no lock: a forwarder may deliver to it at the same
    time, so events may arrive out of order. Raises NotPossible if it does not take them after `max_tries` attempts.
    """
    delivered, dead = 0, list[DeadLetter]()

    def record(_last: int, number: int, rejected: Sequence[DeadLetter]) -> None:
        nonlocal delivered
        delivered += number
        dead.extend(rejected)

    with opened(log, log.destinations.get(name), threading.Event()) as destination:
        splitter = Splitter(destination, Attempts(destination, destination.reload, max_tries), GIVE_UP_SECONDS)
        wanted = [event for event in events if destination.wants(event)]
        size = destination.deliverer.max_events
        try:
            for first in range(0, len(wanted), size):
                splitter.deliver(wanted[first : first + size], record)
        except Interrupted as interruption:
            raise NotPossible(f"{name} does not take events now: {interruption}") from interruption
        dead_ids = {letter.event.id for letter in dead}
        done = [event.id for event in wanted if event.id not in dead_ids]
        if delivered:
            destination.forget_failures()
        return Redelivered(delivered, done, dead, destination.redact(destination.deliverer.last_answer))
