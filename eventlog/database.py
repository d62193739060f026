"""A connection to the log that outlives trouble: opened on first use, reopened after a fault, one writer at a time."""

import fcntl
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import apsw

from .faults import Unavailable, sqlite_errors
from .opening import can_write, connect
from .pairing import Files, files_at, note
from .patience import PATIENCE, patiently
from .side_files import open_side_file

MANY_ROWS = 200  # whose commit takes more than some milliseconds
FEW_PAGES = 1000  # of the write-ahead log, which are copied within some 40 ms
MANY_PAGES = 24_000  # of it, some 100 MB


class Database:
    """The log's file, for one reader or one writer at a time.

    Every wait is for at most PATIENCE seconds and sleeps with time.sleep, which lets the other
    requests of a gevent worker go on. SQLite's own busy handler would stop them all.
    """

    def __init__(self, path: str) -> None:
        #: Runs a call that takes long without holding up the other requests of the process. Threads need nothing
        #: for that; a gevent worker has a pool of real ones.
        self.aside: Callable[[Callable[[], Any]], Any] = lambda call: call()
        #: Pages of 4 KiB that were yet to be copied from the write-ahead log into the file after the latest commit.
        self.wal_pages = 0
        #: Pages at which a commit copies them itself, while all others wait; 0 where `checkpoint` does it in time.
        self.autocheckpoint = MANY_PAGES
        self.path = path
        self._connection: apsw.Connection | None = None
        self._opened: Files = (None, None)
        self._can_write = False
        self._queue: int | None = None
        self._in_use = threading.Lock()

    def read(
        self, query: str, bindings: dict[str, Any] | tuple[Any, ...] = (), patience: float = PATIENCE
    ) -> list[tuple[Any, ...]]:
        """Return all rows of `query`, or raise Unavailable, where it is not readable for `patience` seconds."""
        deadline = monotonic() + patience
        with self._connected(deadline) as connection:
            return patiently(lambda: connection.execute(query, bindings).fetchall(), deadline)

    @contextmanager
    def transaction(self, deadline: float) -> Iterator[apsw.Connection]:
        """Write alone among all processes; on disk, in the file at the path, when the block has ended.

        Raises Unavailable where it cannot, or cannot before `deadline`, a time of the monotonic clock.
        """
        with self._connected(deadline) as connection, self._turn(deadline):
            patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
            before = connection.total_changes()
            yield connection
            if connection.total_changes() - before < MANY_ROWS:
                connection.execute("COMMIT")
            else:
                self.aside(lambda: connection.execute("COMMIT"))
            pages, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            self.wal_pages = pages - copied
            # A file that was moved or deleted takes commits as before, and nobody would ever find them.
            if not self._is_in_place():
                raise Unavailable(f"{self.path}, or the -wal beside it, was moved or deleted")

    @contextmanager
    def alone(self, deadline: float) -> Iterator[apsw.Connection]:
        """Write alone, as in a transaction, while all that was written before is in the file and the -wal is empty."""
        with self._connected(deadline) as connection, self._turn(deadline):
            patiently(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE), deadline)
            patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
            if os.path.getsize(self.path + "-wal") or not self._is_in_place():
                raise Unavailable(f"{self.path} is written to past the queue")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def snapshot(self, deadline: float) -> Iterator[apsw.Connection]:
        """Lend the connection, which sees nothing newer than its first read; the -wal grows until the block ends."""
        with self._connected(deadline) as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the file, so that it begins anew; whoever commits goes on meanwhile.

        Left to SQLite, somebody's commit would do it, and all others wait. Only what was committed while the most of it
        was copied is copied while nobody writes: few pages, or more where they come as fast as they are copied, lest
        the write-ahead log grow for ever. Less is done where a reader needs it or somebody else copies it. Raises
        Unavailable where the log is.
        """
        with self._connected(monotonic()) as connection, suppress(apsw.BusyError):
            try:
                copied, came = 0, math.inf
                while came >= FEW_PAGES:
                    before, came_before = copied, came
                    pages, copied = self.aside(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))
                    if copied < pages:
                        return
                    came = copied - before
                    if came >= came_before and pages >= MANY_PAGES:
                        break
                with self._turn(monotonic() + PATIENCE):
                    self.aside(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))
            finally:
                self.close()  # idle, it would never notice that the file is another

    def close(self) -> None:
        """Close the connection; what it had not committed is gone."""
        with suppress(apsw.Error, OSError, Unavailable):
            self._let_go(monotonic())
        if self._connection is not None:
            with suppress(apsw.Error):
                self._connection.close(True)
            self._connection = None
        if self._queue is not None:
            os.close(self._queue)
            self._queue = None

    @contextmanager
    def _connected(self, deadline: float) -> Iterator[apsw.Connection]:
        """Lend the connection to one user, and close it if that ends in any error: a fresh one has no bad state."""
        if not self._in_use.acquire(timeout=max(0.0, deadline - monotonic())):
            raise Unavailable(f"{self.path} is busy")
        try:
            with sqlite_errors(self.path):
                if self._connection is None or not self._is_in_place():
                    self._reopen(deadline)
                assert self._connection is not None
                yield self._connection
                if not self._can_write:
                    # While it is open, whatever this process opens beside it could not write either.
                    self.close()
        except BaseException:
            with suppress(apsw.Error, OSError, Unavailable):
                self._let_go(monotonic())
            raise
        finally:
            self._in_use.release()

    def _reopen(self, deadline: float) -> None:
        self._let_go(deadline)
        before, _ = files_at(self.path)
        self._connection = patiently(lambda: connect(self.path), deadline)
        self._connection.pragma("wal_autocheckpoint", self.autocheckpoint)
        self._opened = files_at(self.path)
        if before != self._opened[0]:
            raise Unavailable(f"{self.path} was replaced while it was opened")
        self._can_write = can_write(self._connection)
        note(self.path, self._opened)

    def _is_in_place(self) -> bool:
        return self._opened == files_at(self.path)

    def _let_go(self, deadline: float) -> None:
        """Close the connection; where its file is no longer at the path, not before all events are in it, or raise."""
        if self._connection is None:
            return
        if self._left_wal_behind():
            with self._turn(deadline):
                self._settle(self._connection, deadline)
        if files_at(self.path)[1] not in (self._opened[1], None):
            # SQLite deletes a -wal by its name: this one has the events of others.
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close(True)
        self._connection = None
        if files_at(self.path)[1] is None:  # the number of a file that is gone will be another's
            note(self.path, (None, None))

    def _left_wal_behind(self) -> bool:
        """Tell whether another file is at the path, or none, beside the write-ahead log of this one."""
        (file, wal), (file_now, wal_now) = self._opened, files_at(self.path)
        return file_now != file and wal_now == wal

    def _settle(self, connection: apsw.Connection, deadline: float) -> None:
        """Bring all events of a file that was moved into it, and remove what it has left behind.

        SQLite would take that for what belongs to the next file at the path, and make one broken log of the two.
        """
        if not self._left_wal_behind():  # somebody else was quicker
            return
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        patiently(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE), deadline)
        # In this order, since a -shm without a -wal means that somebody deleted the -wal.
        for end in ("-shm", "-wal"):
            with suppress(FileNotFoundError):
                os.unlink(self.path + end)

    @contextmanager
    def _turn(self, deadline: float) -> Iterator[None]:
        """Queue with the other processes: SQLite's lock alone wakes its waiters late and out of order.

        The queue is a file of its own, because closing a second descriptor of the database file would
        drop SQLite's locks on it.
        """
        if self._queue is None:
            self._queue = open_side_file(self.path, self.path + "-queue")
        queue = self._queue
        patiently(lambda: fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB), deadline)
        try:
            yield
        finally:
            fcntl.flock(queue, fcntl.LOCK_UN)
