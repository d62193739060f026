"""Connections to the log, which open themselves and recover from errors."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import apsw

from .errors import Unavailable, sqlite_errors
from .runtime import Runtime
from .schema import can_write, connect, require_file
from .shared_files import shared_files
from .waiting import WAIT_SECONDS, WriteQueue, retry_until

MAX_FAST_ROWS = 200  # changed rows whose commit takes a few milliseconds
MAX_FAST_SECONDS = 0.02  # after a commit that took longer, the next one runs in a thread
MAX_WAL_PAGES = 24_000  # about 100 MB


class Database:
    """The log at a path, over one connection that one request uses at a time.

    The connection opens at its first use. It closes after any error, since a new one has no bad state, and when the
    log's files were moved. Every wait ends after WAIT_SECONDS and sleeps with time.sleep, so the other requests of a
    gevent worker go on. SQLite's own busy handler would stop them all.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.runtime = Runtime()
        #: Pages of 4 KiB that were in the WAL but not yet in the file after the latest commit.
        self.wal_pages = 0
        self.queue = WriteQueue(path)
        self._connection: apsw.Connection | None = None
        self._can_write = False
        self._commit_seconds = 0.0  # of the latest commit
        self._in_use = threading.Lock()
        self._files = shared_files(path)
        self._files.owners.add(self)

    def read(
        self, query: str, bindings: dict[str, Any] | tuple[Any, ...] = (), wait_seconds: float = WAIT_SECONDS
    ) -> list[tuple[Any, ...]]:
        """Return all rows of `query`. Raise Unavailable if it cannot be read within `wait_seconds`."""
        deadline = monotonic() + wait_seconds
        with self.connection(deadline) as connection:
            return retry_until(deadline, lambda: connection.execute(query, bindings).fetchall())

    @contextmanager
    def transaction(self, deadline: float | None = None) -> Iterator[apsw.Connection]:
        """Write while no other process does.

        When the block has ended, its changes are on disk, in the file at the path. Raises Unavailable if that fails or
        a lock is not free by `deadline`, a time of the monotonic clock. The default is WAIT_SECONDS from now.
        """
        deadline = deadline or monotonic() + WAIT_SECONDS
        with self.connection(deadline) as connection, self.queue.turn(deadline):
            retry_until(deadline, lambda: connection.execute("BEGIN IMMEDIATE"))
            before = connection.total_changes()
            yield connection  # an error releases the queue first, then closes the connection, which rolls back
            if connection.total_changes() - before < MAX_FAST_ROWS and self._commit_seconds < MAX_FAST_SECONDS:
                self._commit(connection)
            else:
                self.runtime.run_blocking(lambda: self._commit(connection))
            pages, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            self.wal_pages = pages - copied
            # A file that was moved or deleted still takes commits, but readers at the path never see them.
            if not self._files.are_in_place():
                raise Unavailable(f"{self.path}, its -wal or its -shm was moved or deleted")

    @contextmanager
    def exclusive_transaction(self, deadline: float) -> Iterator[apsw.Connection]:
        """Write as in a transaction, but with an empty WAL: all earlier commits are in the file."""
        with self.connection(deadline) as connection, self.queue.turn(deadline):
            retry_until(deadline, lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE))
            retry_until(deadline, lambda: connection.execute("BEGIN IMMEDIATE"))
            if os.path.getsize(self.path + "-wal") or not self._files.are_in_place():
                raise Unavailable(f"A process writes to {self.path} without waiting in its queue")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[apsw.Connection]:
        """Lend the connection in a read transaction. The WAL grows until the block ends."""
        with self.connection(monotonic() + WAIT_SECONDS) as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("ROLLBACK")

    @contextmanager
    def connection(self, deadline: float) -> Iterator[apsw.Connection]:
        """Lend the connection to one request, and close it after any error.

        Raises Unavailable if the log cannot be opened, or another request still uses the connection at `deadline`.
        """
        if not self._in_use.acquire(timeout=max(0.0, deadline - monotonic())):
            raise Unavailable(f"{self.path} is busy")
        try:
            with sqlite_errors(self.path):
                if self._files.are_in_place():
                    self._files.renew_note()
                else:
                    self._save_and_close(deadline)
                if self._connection is None:
                    self._connection = retry_until(deadline, lambda: self._open(deadline))
                yield self._connection
                if not self._can_write:
                    # While it is open, other connections of this process cannot write either.
                    self.close()
        except BaseException:
            with suppress(apsw.Error, OSError, Unavailable):
                self._save_and_close(monotonic())
            raise
        finally:
            self._in_use.release()

    def close(self) -> None:
        """Close the connection. Uncommitted changes are lost."""
        with suppress(apsw.Error, OSError, Unavailable):
            self._save_and_close(monotonic() + WAIT_SECONDS)
        if self._connection is not None:
            with suppress(apsw.Error):
                self._files.close(self._connection)
            self._connection = None
        self.queue.close()

    def close_if_moved(self) -> None:
        """Close the connection if its files were moved and no request uses it."""
        if self._in_use.acquire(blocking=False):
            try:
                if self._connection is not None and not self._files.are_in_place():
                    with suppress(apsw.Error, OSError, Unavailable):
                        self._save_and_close(monotonic())
            finally:
                self._in_use.release()

    def _commit(self, connection: apsw.Connection) -> None:
        """Commit, and let other processes write at once. If this runs in a thread, its request may continue late."""
        started_at = monotonic()
        connection.execute("COMMIT")
        self._commit_seconds = monotonic() - started_at
        self.queue.release()

    def _open(self, deadline: float) -> apsw.Connection:
        require_file(self.path)
        self._files.close_if_moved()
        with self.queue.turn(deadline):
            connection = self._files.open(lambda: connect(self.path))
        # SQLite's automatic checkpoint would block the thread of all requests; there, Checkpointer does it instead.
        connection.pragma("wal_autocheckpoint", 0 if self.runtime.is_cooperative else MAX_WAL_PAGES)
        self._can_write = can_write(connection)
        return connection

    def _save_and_close(self, deadline: float) -> None:
        """Close the connection. If its files are not in place, copy all events into the log's file first, or raise."""
        connection = self._connection
        if connection is None:
            return
        if not self._files.are_in_place():
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            with self.queue.turn(deadline):
                retry_until(deadline, lambda: self._files.checkpoint_moved_file(connection))
        self._files.close(connection)
        self._connection = None


class Tables:
    """Tables of the log, read over one connection and written over another, so that no read waits for a commit."""

    def __init__(self, read: Database, written: Database) -> None:
        self._read = read
        self._written = written
