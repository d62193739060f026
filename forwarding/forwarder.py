"""Deliver the log's events to one destination, in order, and keep up with new ones."""

import threading
from collections.abc import Callable
from contextlib import closing

from eventlog import EventLog, Unavailable
from telemetry.storage_trouble import StorageTrouble

from . import lock
from .attempts import Attempts
from .batches import BatchReader
from .delivery import Deliverer
from .filters import is_wanted
from .open_destination import Interrupted, OpenDestination, Removed, find, opened
from .splitting import GIVE_UP_SECONDS, Splitter
from .urls import open_deliverer

POLL_SECONDS = 0.5  # between two looks at the log while nothing waits


class Forwarder:
    """Delivers to one destination: read a batch, reserve it, deliver it, advance the position.

    The position advances only after the destination has acknowledged or rejected the events, so a forwarder that is
    killed skips nothing. `report` is called after each batch with the number of ids that the position has advanced.
    """

    def __init__(
        self,
        log: EventLog,
        name: str,
        *,
        stop: threading.Event,
        once: bool = False,
        give_up_after: float = GIVE_UP_SECONDS,
        report: Callable[[int], object] = lambda advanced: None,
        open_deliverer: Callable[[str], Deliverer] = open_deliverer,
    ) -> None:
        self._log = log
        self._name = name
        self._stop = stop
        self._once = once
        self._give_up_after = give_up_after
        self._report = report
        self._open_deliverer = open_deliverer
        self._trouble = StorageTrouble(name, quiet_seconds=0)

    def run(self) -> bool:
        """Deliver until `stop` is set, or with `once` until nothing can be delivered.

        Ends early if the destination is paused, changed or removed. Return True if nothing is left to deliver.
        Raises NotPossible if another forwarder delivers to the destination, or if it cannot be opened.
        """
        try:
            with lock.exclusive(self._log.path, self._name):
                row = find(self._log, self._name)
                with opened(self._log, row, self._stop, self._open_deliverer) as destination:
                    return self._run(destination)
        except Removed:
            lock.discard(self._log.path, self._name)
        except Interrupted:
            pass
        return False

    def _run(self, destination: OpenDestination) -> bool:
        splitter = Splitter(destination, Attempts(destination, destination.check, self._once), self._give_up_after)
        with closing(BatchReader(self._log, destination.deliverer, waits=not self._once)) as batches:
            while not self._stop.is_set():
                try:
                    has_advanced = self._deliver_next(destination, batches, splitter)
                    self._trouble.note_success()
                    if not has_advanced:
                        if self._once:
                            return self._log.reader.last_id() <= destination.reload().position
                        self._stop.wait(POLL_SECONDS)
                except Unavailable as failure:
                    self._trouble.note_failure(failure)
                    self._stop.wait(POLL_SECONDS)
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
        splitter.deliver([event for event in events if is_wanted(event, row)], destination.advance)
        destination.advance(last)
        self._report(last - row.position)
        return True
