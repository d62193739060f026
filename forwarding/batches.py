"""Read a destination's batches from the log, the following one while a batch is delivered."""

from concurrent.futures import Future, wait
from functools import partial
from time import monotonic

from eventlog import Destination, EventLog, StoredEvent
from eventlog.times import age

from .delivery import Deliverer
from .threads import run_in_thread


class BatchReader:
    """Reads batches as large as a deliverer takes them. One thread uses it."""

    def __init__(self, log: EventLog, deliverer: Deliverer, *, waits: bool) -> None:
        self._reader = log.reader
        self._deliverer = deliverer
        self._waits = waits and deliverer.max_wait_seconds > 0  # for more events, if a batch is not full
        self._ahead: tuple[int, Future[list[StoredEvent]]] | None = None  # a cursor, and the batch after it
        self._waiting_since: tuple[int, float] | None = None  # a cursor, and when events after it were first seen

    def read_next(self, destination: Destination) -> list[StoredEvent]:
        """Return the batch after the destination's cursor, the same as before a crash; empty if nothing is due now."""
        cursor = destination.position
        if destination.reserved is not None:
            return self._reader.read_range(cursor, destination.reserved)
        ahead, self._ahead = self._ahead, None
        events = ahead[1].result() if ahead and ahead[0] == cursor else []
        events = events or self._read(cursor)
        if events and not self._deliverer.max_wait_seconds:
            # Read the following batch while this one is delivered. The read is short: no transaction stays open.
            self._ahead = events[-1].id, run_in_thread(partial(self._read, events[-1].id))
        return events

    def close(self) -> None:
        """Wait until no thread reads."""
        if self._ahead:
            wait([self._ahead[1]])

    def _read(self, cursor: int) -> list[StoredEvent]:
        limits = self._deliverer.max_events, self._deliverer.max_bytes
        last, is_full, oldest = self._reader.measure(cursor, *limits)
        if oldest and self._waits and not is_full:
            # Events stamped while the clock was ahead look young. So measure by the monotonic clock as well.
            if self._waiting_since is None or self._waiting_since[0] != cursor:
                self._waiting_since = cursor, monotonic()
            if max(age(oldest), monotonic() - self._waiting_since[1]) < self._deliverer.max_wait_seconds:
                return []
        return self._reader.read_range(cursor, last)
