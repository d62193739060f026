"""Append events to the log, many requests per disk sync."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

import apsw

from .database import Database
from .faults import ROW_FAULTS, DiskFull, Unavailable
from .patience import PATIENCE
from .records import Counts, Event, Rejection, drop_oldest_rejected, write_events, write_rejected

GROUP_EVENTS = 4000  # a group that holds as many takes no further request
CHECKPOINT_PAGES = 4000  # of the write-ahead log, at which they are copied into the file
REJECTED_ROW_BYTES = 500  # of the log's file, about, for a refused body but for the body and its errors
CHECKPOINT_FULL_SECONDS = 1.0  # between two checkpoints while the disk is full
AGAIN_PAGES = 1000  # after as many more it is tried again, if a reader was in the way or somebody else did it


class Writer:
    """Commits in one transaction whatever the requests of this process have ready.

    No thread of its own does it: the request that opens a group commits it for all that join.
    """

    def __init__(self, database: Database, checkpointed: Database, most_rejected_bytes: int) -> None:
        #: Returns when every request that is ready has joined the group. Threads have no such moment: theirs
        #: join while the group before is committed. Under gevent it is when the loop is idle.
        self.gather: Callable[[], object] = lambda: None
        #: Called after each commit: its seconds, from when the group is together, and the group's size.
        self.committed: Callable[[float, int], object] = lambda seconds, size: None
        #: Raises DiskFull where the transaction of this connection must not take more of the disk.
        self.require_room: Callable[[apsw.Connection], object] = lambda connection: None
        #: Starts a call whose end need not be waited for. Threads make it at once.
        self.later: Callable[[Callable[[], object]], object] = lambda call: call()
        self._database = database
        self._checkpointed = checkpointed  # the same log, over a connection of its own
        self._checkpoint_at = CHECKPOINT_PAGES
        self._checkpoint_full_at = 0.0
        self._most_rejected_bytes = most_rejected_bytes
        self._open: _Group | None = None
        self._joining = threading.Lock()
        self._committing = threading.Lock()
        self._checkpointing = threading.Lock()

    def append(self, events: Sequence[Event], rejected: Sequence[Rejection] = ()) -> list[bool]:
        """Return once all of it is on disk; tell for each event whether it is new.

        Raises Unavailable where it could not be, or not in time: sent again, it is stored once.
        """
        part = _Part(events, rejected)
        group, opened_it = self._join(part)
        if opened_it:
            self._commit(group)
        else:
            with group.settled:  # its opener settles it in bounded time, whatever happens
                pass
        failure = part.fault or group.failure
        if failure:
            raise failure
        if group.dropped_bytes:
            self._drop_rejected(rejected)
        return part.are_new

    def wait_for_checkpoint(self) -> None:
        """Return when no checkpoint of this process has the log open, or after PATIENCE."""
        if self._checkpointing.acquire(timeout=PATIENCE):
            self._checkpointing.release()

    def _drop_rejected(self, rejected: Sequence[Rejection]) -> None:
        """Delete twice what these refused bodies added, while there are too many, so that the table shrinks.

        It takes many small transactions, and others append in between. Only the sender of the bodies waits for it.
        """
        due = 2 * sum(len(each.body) + len(each.errors) + REJECTED_ROW_BYTES for each in rejected)
        with suppress(Unavailable):
            while due > 0:
                began, counts = monotonic(), Counts()
                with self._database.transaction(began + PATIENCE) as connection:
                    freed = drop_oldest_rejected(connection, counts, self._most_rejected_bytes)
                    counts.write(connection)
                if not freed:
                    return
                due -= freed
                self._checkpoint_if_due()
                time.sleep(monotonic() - began)

    def _join(self, part: "_Part") -> "tuple[_Group, bool]":
        """Add a request to the open group; tell whether that is new, and so the request's to commit."""
        with self._joining:
            opens = self._open is None
            group = self._open or _Group()
            group.add(part)
            self._open = group if group.size < GROUP_EVENTS else None
        return group, opens

    def _close(self, group: "_Group") -> None:
        with self._joining:
            if self._open is group:
                self._open = None

    def _commit(self, group: "_Group") -> None:
        deadline = monotonic() + PATIENCE
        try:
            if not self._committing.acquire(timeout=PATIENCE):
                raise Unavailable(f"{self._database.path} is busy: its disk is slow, or another process holds a lock")
            try:
                self.gather()
                together = monotonic()
                while not self._is_written(group, deadline):
                    pass
                group.seconds = monotonic() - together
            finally:
                self._committing.release()
            group.failure = None
        except Exception as failure:
            group.failure = failure
        finally:
            self._close(group)
            group.settled.release()
        if group.failure is None:
            self.committed(group.seconds, group.size)
            self._checkpoint_if_due()
        elif isinstance(group.failure, DiskFull) and monotonic() >= self._checkpoint_full_at:
            # Nothing else would: it copies after a commit only. What is copied makes room in the write-ahead log.
            self._checkpoint_full_at = monotonic() + CHECKPOINT_FULL_SECONDS
            self.later(self._checkpoint)

    def _checkpoint_if_due(self) -> None:
        pages = self._database.wal_pages
        if pages < CHECKPOINT_PAGES:
            self._checkpoint_at = CHECKPOINT_PAGES
        elif pages >= self._checkpoint_at:
            self._checkpoint_at = pages + AGAIN_PAGES
            self.later(self._checkpoint)

    def _checkpoint(self) -> None:
        if self._checkpointing.acquire(blocking=False):
            try:
                with suppress(Unavailable):
                    self._checkpointed.checkpoint()
            finally:
                self._checkpointing.release()

    def _is_written(self, group: "_Group", deadline: float) -> bool:
        """Commit the group but for the parts at fault; False, and nothing is written, where one more is found."""
        try:
            with self._database.transaction(deadline) as connection:
                # Only now: what became ready while other processes wrote has joined.
                self._close(group)
                group.write(connection, self._most_rejected_bytes)
                self.require_room(connection)
        except _PartAtFault:
            return False
        return True


class _PartAtFault(Exception):
    """A part that cannot be stored, whatever the state of the log. It fails alone."""


class _Group:
    """Requests that are committed together."""

    def __init__(self) -> None:
        self.size = 0  # events, and bodies that were refused
        self.seconds = 0.0
        self.dropped_bytes = 0  # of refused bodies, because there were too many
        self.failure: Exception | None = Unavailable("the commit was interrupted")
        self.settled = threading.Lock()  # a lock that is waited for costs less than a threading.Event
        self.settled.acquire()
        self._parts: list[_Part] = []

    def add(self, part: "_Part") -> None:
        self._parts.append(part)
        self.size += len(part.events) + len(part.rejected)

    def write(self, connection: apsw.Connection, most_rejected_bytes: int) -> None:
        counts = Counts()
        for part in self._parts:
            if not part.fault:
                part.write(connection, counts)
        if any(part.rejected for part in self._parts):
            self.dropped_bytes = drop_oldest_rejected(connection, counts, most_rejected_bytes)
        counts.write(connection)


class _Part:
    """What one request brings to a group: written as a whole or not at all."""

    def __init__(self, events: Sequence[Event], rejected: Sequence[Rejection]) -> None:
        self.events = events
        self.rejected = rejected
        self.are_new: list[bool] = []
        self.fault: Exception | None = None  # its own, which its neighbours do not share

    def write(self, connection: apsw.Connection, counts: Counts) -> None:
        try:
            self.are_new = write_events(connection, self.events, counts)
            write_rejected(connection, self.rejected, counts)
        except (*ROW_FAULTS, TypeError, ValueError) as fault:
            self.fault = fault
            raise _PartAtFault from fault
