"""Group commit: the requests of a process share one transaction and one disk sync."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

import apsw

from .checkpoint import Checkpointer
from .database import Database
from .errors import ROW_ERRORS, DiskFull, Unavailable
from .records import Counts, Event, Rejection, drop_oldest_rejected, write_events, write_rejected
from .waiting import WAIT_SECONDS

MAX_GROUP_EVENTS = 4000  # a group that has this many is closed to further requests
REJECTED_ROW_BYTES = 500  # about what a rejection takes of the file without its body and errors


class Writer:
    """Commits what all requests of this process have ready in one transaction.

    It has no thread of its own. The request that opens a group commits it for all that join.
    """

    def __init__(self, database: Database, checkpointer: Checkpointer, max_rejected_bytes: int) -> None:
        #: Called after each commit with its seconds and the group's number of events and rejections.
        self.on_commit: Callable[[float, int], object] = lambda seconds, size: None
        #: Called with the connection before each commit. Raises DiskFull if the transaction must not take more room.
        self.require_room: Callable[[apsw.Connection], object] = lambda connection: None
        self._database = database
        self._checkpointer = checkpointer
        self._max_rejected_bytes = max_rejected_bytes
        self._open_group: _Group | None = None
        self._joining = threading.Lock()
        self._committing = threading.Lock()

    @property
    def gathered_rows(self) -> int:
        """See EventLog.gathered_rows."""
        group = self._open_group
        return group.size if group else 0

    def append(self, events: Sequence[Event], rejected: Sequence[Rejection] = ()) -> list[bool]:
        """See EventLog.append."""
        request = _Request(events, rejected)
        group, is_opener = self._join(request)
        if is_opener:
            self._commit(group)
        else:
            with group.done:  # its opener releases it within a bounded time, whatever happens
                pass
        if failure := request.failure or group.failure:
            raise failure
        if group.dropped_bytes:
            self._drop_rejected(rejected)
        return request.are_new

    def _join(self, request: "_Request") -> "tuple[_Group, bool]":
        """Add a request to the open group. Return the group, and whether this request opened it and must commit it."""
        with self._joining:
            is_opener = self._open_group is None
            group = self._open_group or _Group()
            group.add(request)
            self._open_group = group if group.size < MAX_GROUP_EVENTS else None
        return group, is_opener

    def _close_to_others(self, group: "_Group") -> None:
        with self._joining:
            if self._open_group is group:
                self._open_group = None

    def _commit(self, group: "_Group") -> None:
        """Commit the group, or set its failure. Let its requests return, then see whether a checkpoint is due."""
        deadline = monotonic() + WAIT_SECONDS
        try:
            if not self._committing.acquire(timeout=WAIT_SECONDS):
                raise Unavailable(f"{self._database.path} is busy: its disk is slow, or another process holds a lock")
            try:
                self._database.runtime.wait_until_idle()
                started_at = monotonic()
                self._write(group, deadline)
                seconds = monotonic() - started_at
            finally:
                self._committing.release()
            group.failure = None
        except Exception as failure:
            group.failure = failure
        finally:
            self._close_to_others(group)
            group.done.release()
        if group.failure is None:
            self.on_commit(seconds, group.size)
            self._checkpointer.start_if_due(self._database.wal_pages)
        elif isinstance(group.failure, DiskFull):
            self._checkpointer.start_on_full_disk()

    def _write(self, group: "_Group", deadline: float) -> None:
        """Commit the group's rows in one transaction. If a request fails, begin again without it."""
        while True:
            with suppress(_RequestFailed):
                with self._database.transaction(deadline) as connection:
                    # Close it only now: requests that became ready while other processes wrote are in the group.
                    self._close_to_others(group)
                    group.write(connection, self._max_rejected_bytes)
                    self.require_room(connection)
                return

    def _drop_rejected(self, rejected: Sequence[Rejection]) -> None:
        """Delete the oldest rejections while the table is above its limit, up to twice the bytes that these ones added.

        Twice, so that the table shrinks. It takes many small transactions, with other requests' commits in between.
        Only the sender of these rejections waits for it.
        """
        surplus = 2 * sum(len(each.body) + len(each.errors) + REJECTED_ROW_BYTES for each in rejected)
        with suppress(Unavailable):
            while surplus > 0:
                started_at, counts = monotonic(), Counts()
                with self._database.transaction(started_at + WAIT_SECONDS) as connection:
                    freed = drop_oldest_rejected(connection, counts, self._max_rejected_bytes)
                    counts.write(connection)
                if not freed:
                    return
                surplus -= freed
                self._checkpointer.start_if_due(self._database.wal_pages)
                time.sleep(monotonic() - started_at)


class _RequestFailed(Exception):
    """A request's rows cannot be stored, whatever the state of the log. It fails without its group."""


class _Group:
    """Requests that are committed together."""

    def __init__(self) -> None:
        self.size = 0  # events and rejections
        self.dropped_bytes = 0  # of the oldest rejections, because the table was above its limit
        # The commit replaces it, unless an exception that is not handled, such as GreenletExit, ends it.
        self.failure: Exception | None = Unavailable("The commit was interrupted")
        self.done = threading.Lock()  # waiting for a lock costs less than for a threading.Event
        self.done.acquire()
        self._requests: list[_Request] = []

    def add(self, request: "_Request") -> None:
        self._requests.append(request)
        self.size += len(request.events) + len(request.rejected)

    def write(self, connection: apsw.Connection, max_rejected_bytes: int) -> None:
        """Write the rows of all requests that have not failed, and their counts. Raise _RequestFailed if one does."""
        counts = Counts()
        for request in self._requests:
            if not request.failure:
                request.write(connection, counts)
        if any(request.rejected for request in self._requests):
            self.dropped_bytes = drop_oldest_rejected(connection, counts, max_rejected_bytes)
        counts.write(connection)


class _Request:
    """The events and rejections of one append. They are written as a whole or not at all."""

    def __init__(self, events: Sequence[Event], rejected: Sequence[Rejection]) -> None:
        self.events = events
        self.rejected = rejected
        self.are_new: list[bool] = []
        self.failure: Exception | None = None  # of its own rows; the rest of the group can still be stored

    def write(self, connection: apsw.Connection, counts: Counts) -> None:
        try:
            self.are_new = write_events(connection, self.events, counts)
            write_rejected(connection, self.rejected, counts)
        except (*ROW_ERRORS, TypeError, ValueError) as failure:
            self.failure = failure
            raise _RequestFailed from failure
