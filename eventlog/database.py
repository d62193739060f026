"""A connection to the log that outlives trouble: opened on first use, reopened after a fault, one user at a time."""

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import apsw

from .faults import Unavailable, sqlite_errors
from .opening import can_write, connect, require
from .patience import PATIENCE, patiently
from .shared_files import shared_files
from .write_queue import WriteQueue

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
        self._can_write = False
        self._in_use = threading.Lock()
        self._queue = WriteQueue(path)
        self._files = shared_files(path)
        self._files.add_user(self)

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
        with self._connected(deadline) as connection, self._queue.turn(deadline):
            patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
            before = connection.total_changes()
            yield connection
            if connection.total_changes() - before < MANY_ROWS:
                connection.execute("COMMIT")
            else:
                self.aside(lambda: connection.execute("COMMIT"))
            pages, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            self.wal_pages = pages - copied
            # A file that was moved or deleted takes commits as before, but readers at the path never see them.
            if not self._files.are_in_place():
                raise Unavailable(f"{self.path}, its -wal or its -shm was moved or deleted")

    @contextmanager
    def alone(self, deadline: float) -> Iterator[apsw.Connection]:
        """Write alone, as in a transaction, while all that was written before is in the file and the -wal is empty."""
        with self._connected(deadline) as connection, self._queue.turn(deadline):
            patiently(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE), deadline)
            patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
            if os.path.getsize(self.path + "-wal") or not self._files.are_in_place():
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
        with self._connected(monotonic() + PATIENCE) as connection, suppress(apsw.BusyError):
            copied, came = 0, math.inf
            while came >= FEW_PAGES:
                before, came_before = copied, came
                pages, copied = self.aside(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))
                if copied < pages:
                    return
                came = copied - before
                if came >= came_before and pages >= MANY_PAGES:
                    break
            with self._queue.turn(monotonic() + PATIENCE):
                self.aside(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))

    def close(self) -> None:
        """Close the connection; uncommitted changes are lost."""
        with suppress(apsw.Error, OSError, Unavailable):
            self._settle_and_close(monotonic() + PATIENCE)
        if self._connection is not None:
            with suppress(apsw.Error):
                self._files.close(self._connection)
            self._connection = None
        self._queue.close()

    def close_if_moved(self) -> None:
        """Close the connection if the log's files are no longer in place and nothing uses it at this moment."""
        if self._in_use.acquire(blocking=False):
            try:
                if self._connection is not None and not self._files.are_in_place():
                    with suppress(apsw.Error, OSError, Unavailable):
                        self._settle_and_close(monotonic())
            finally:
                self._in_use.release()

    @contextmanager
    def _connected(self, deadline: float) -> Iterator[apsw.Connection]:
        """Lend the connection to one user, and close it if that ends in any error: a fresh one has no bad state."""
        if not self._in_use.acquire(timeout=max(0.0, deadline - monotonic())):
            raise Unavailable(f"{self.path} is busy")
        try:
            with sqlite_errors(self.path):
                if self._files.are_in_place():
                    self._files.note_again()
                else:
                    self._settle_and_close(deadline)
                if self._connection is None:
                    self._connection = patiently(lambda: self._open(deadline), deadline)
                yield self._connection
                if not self._can_write:
                    # While it is open, other connections of this process could not write either.
                    self.close()
        except BaseException:
            with suppress(apsw.Error, OSError, Unavailable):
                self._settle_and_close(monotonic())
            raise
        finally:
            self._in_use.release()

    def _open(self, deadline: float) -> apsw.Connection:
        require(self.path)
        self._files.close_if_moved()
        with self._queue.turn(deadline):
            connection = self._files.open(lambda: connect(self.path))
        connection.pragma("wal_autocheckpoint", self.autocheckpoint)
        self._can_write = can_write(connection)
        return connection

    def _settle_and_close(self, deadline: float) -> None:
        """Close the connection. If its files are not in place, bring all events into the log's file first, or raise."""
        connection = self._connection
        if connection is None:
            return
        if not self._files.are_in_place():
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            with self._queue.turn(deadline):
                patiently(lambda: self._files.settle(connection), deadline)
        self._files.close(connection)
        self._connection = None
