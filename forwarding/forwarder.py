"""Deliver to one destination: the log's events in order, or given events once more."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from eventlog import DeadLetter, EventLog, NotPossible, StoredEvent, Unavailable
from telemetry.storage_trouble import StorageTrouble

from . import lock, urls
from .attempts import Attempts
from .batches import BatchReader
from .delivery import Deliverer
from .open_destination import Interrupted, OpenDestination, Removed, find, opened
from .splitting import GIVE_UP_SECONDS, Splitter

POLL_SECONDS = 0.5  # between two looks at the log while nothing waits


@dataclass
class Forwarder:
    """Delivers to one destination: read a batch, reserve it, deliver it, advance the position.

    The position advances only after the destination has acknowledged or rejected the events, so a forwarder that is
    killed skips nothing. `report` is called after each batch with the number of ids that the position has advanced.
    """

    log: EventLog
    name: str
    stop: threading.Event
    once: bool = False
    give_up_after: float = GIVE_UP_SECONDS
    report: Callable[[int], object] = lambda advanced: None
    open_deliverer: Callable[[str], Deliverer] = urls.open_deliverer

    def run(self) -> bool:
        """Deliver until `stop` is set, or with `once` until nothing can be delivered.

        Ends early if the destination is paused, changed or removed. Return True if nothing is left to deliver.
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
        splitter = Splitter(destination, Attempts(destination, destination.check, self.once), self.give_up_after)
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
        events = batches.read_next(row)
        if not events:
            if row.reserved is None:
                return False
            destination.advance(row.reserved)  # every event of the reserved batch was deleted by `events forget`
            return True
        last = events[-1].id
        if destination.deliverer.reserves_batches and row.reserved is None:
            destination.reserve(last)
        splitter.deliver([event for event in events if destination.wants(event)], destination.advance)
        destination.advance(last)
        self.report(last - row.position)
        return True


def redeliver(log: EventLog, name: str, events: Sequence[StoredEvent]) -> tuple[int, list[int], list[DeadLetter]]:
    """Deliver the events that the destination wants.

    Return the number delivered, the ids of those delivered or dropped by its transform, and the dead letters.

    The position stays, and the destination may be paused. Takes no lock: a forwarder may deliver to it at the same
    time, so events may arrive out of order. Raises NotPossible if it does not take them after a few attempts.
    """
    delivered, dead = 0, list[DeadLetter]()

    def record(_last: int, number: int, rejected: Sequence[DeadLetter]) -> None:
        nonlocal delivered
        delivered += number
        dead.extend(rejected)

    with opened(log, log.destinations.get(name), threading.Event()) as destination:
        splitter = Splitter(destination, Attempts(destination, destination.reload, once=True), GIVE_UP_SECONDS)
        wanted = [event for event in events if destination.wants(event)]
        size = destination.deliverer.max_events
        try:
            for first in range(0, len(wanted), size):
                splitter.deliver(wanted[first : first + size], record)
        except Interrupted as interruption:
            raise NotPossible(f"{name} does not take events now: {interruption}") from interruption
    dead_ids = {letter.event.id for letter in dead}
    return delivered, [event.id for event in wanted if event.id not in dead_ids], dead
