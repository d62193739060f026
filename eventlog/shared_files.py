"""Keep all connections of this process to the log on the same three files, and on those of other processes.

A log's file, its -wal and its -shm are one unit, but SQLite finds the last two by name. If one of them is moved,
deleted or replaced while the log is in use, the next connection would open another one and write past all that have
the first. Within one process SQLite even joins the two: it keeps one -shm per log file for as long as any connection
has that file open. So a process closes every connection that it has before it opens one to other files. And it opens
other files only while no process has the log open: each holds a shared lock on the log's file.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol
from weakref import WeakSet, WeakValueDictionary, finalize

import apsw

from .faults import Unavailable
from .pairing import Files, Identity, files_at, note, noted
from .side_files import open_side_file

WAL_MODE = b"\x02\x02"  # bytes 18 and 19 of a log in use, its versions for reading and writing
NOTE_AGAIN = 0.25  # seconds between two looks at what is noted

logger = logging.getLogger("tracklog.eventlog")


class User(Protocol):
    """An object that has at most one connection to the log."""

    def close_if_moved(self) -> None:
        """Close the connection if its files are no longer in place and nothing uses it at this moment."""


class SharedFiles:
    """The log's three files as this process has them open."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._users: WeakSet[User] = WeakSet()
        self._connections: set[apsw.Connection] = set()
        self._opened = Files()
        self._look_again = 0.0
        # Closing any descriptor of the log's file drops SQLite's locks on it, so this one outlives all connections.
        self._descriptor = -1
        self._close_descriptor: Callable[[], object] = lambda: None

    def add_user(self, user: User) -> None:
        self._users.add(user)

    def are_in_place(self) -> bool:
        """Return whether the files that this process has open are those at the path."""
        return files_at(self.path) == self._opened

    def create(self) -> None:
        """Make an empty file for a new log if there is none. The caller holds the write queue.

        Raises BlockingIOError, as `open` does.
        """
        if not os.path.exists(self.path):
            self._refuse_files_of_another(files_at(self.path), noted(self.path))
            os.close(open_side_file(self.path, self.path))

    def open(self, connect: Callable[[], apsw.Connection]) -> apsw.Connection:
        """Return a connection made by `connect`. The caller holds the write queue.

        Raises BlockingIOError while this or another process has other files open: that is worth a second try.
        Raises Unavailable if a -wal at the path belongs to another log.
        """
        with self._lock:
            is_first = not self._connections
            expected = self._claim() if is_first else self._opened
            connection = None
            try:
                connection = connect()
                found = files_at(self.path)
                if found[: len(expected)] != expected or None in found:
                    raise BlockingIOError(_in_use(self.path))
                if is_first:
                    self._share(found)
            except BaseException:
                if connection is not None:
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                    connection.close(True)
                if is_first:
                    self._release()
                raise
            self._connections.add(connection)
            return connection

    def close(self, connection: apsw.Connection) -> None:
        """Close a connection. If the files are not in place, `settle` comes first."""
        with self._lock:
            if files_at(self.path).wal not in (self._opened.wal, None):
                # SQLite deletes a -wal by name, and this one is not ours.
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close(True)
            self._connections.discard(connection)
            if not self._connections:
                if files_at(self.path).wal is None:
                    self._note_settled()
                self._release()

    def settle(self, connection: apsw.Connection) -> None:
        """Bring all events into the log's file, wherever it is now. The caller holds the write queue.

        Raises BusyError while a reader needs the -wal. Afterwards the -wal is empty, and harms no log that it may
        meet. If another log is at the path, or none, our -wal and -shm are removed from there.
        """
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        found = files_at(self.path)
        if found.log != self._opened.log:
            # In this order: a log beside our -shm alone would be opened with it.
            for end, identity, ours in (("-shm", found.shm, self._opened.shm), ("-wal", found.wal, self._opened.wal)):
                if identity == ours:
                    with suppress(FileNotFoundError):
                        os.unlink(self.path + end)
        if not self.are_in_place():
            self._note_settled()

    def close_if_moved(self) -> None:
        """Close all connections that nothing uses, if the files are no longer in place."""
        if self._connections and self.are_in_place():
            self.note_again()
        elif self._connections:
            for user in list(self._users):
                user.close_if_moved()

    def note_again(self) -> None:
        """Note the files, which are in place, if they have been away and others have noted them as settled.

        Those others cannot open the log before. Call it at each use; it looks a few times a second.
        """
        if self._connections and monotonic() >= self._look_again:
            self._look_again = monotonic() + NOTE_AGAIN
            if noted(self.path) != self._opened:
                note(self.path, self._opened)

    def _claim(self) -> tuple[Identity, ...]:
        """Lock the log's file. Return the files that a connection must find: its own, and others that are in use."""
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._close_descriptor = finalize(self, os.close, self._descriptor)  # a log may be dropped without a close
        try:
            is_in_use = self._is_in_use()
            # Not before: a process that closes the log changes both, and lets go of the lock after that.
            found, known = files_at(self.path), noted(self.path)
            if not is_in_use:
                self._prepare(found, known)
                return found[:1]
            if found != known:
                raise BlockingIOError(_in_use(self.path))
            return known
        except BaseException:
            self._release()
            raise

    def _is_in_use(self) -> bool:
        """Lock the log's file: alone, or with the processes that use it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        return False

    def _prepare(self, found: Files, known: Files) -> None:
        """Make sure that the log, which no process has open, is not opened with files of another."""
        # A backup is not in WAL mode. Copied over the log, or in its place, it may have the number of the one before.
        if found.wal and os.path.getsize(self.path + "-wal") and os.pread(self._descriptor, 2, 18) != WAL_MODE:
            raise Unavailable(f"{self.path}-wal and -shm belong to the log that was here before. Move them away")
        if found.log != known.log:
            self._refuse_files_of_another(found, known)
            return
        if found.wal != known.wal and found.wal and os.path.getsize(self.path + "-wal"):
            raise Unavailable(
                f"{self.path}-wal is not the one that tracklog has written. If it belongs to this log, as when both "
                f"were restored or sqlite3 has written it, run: sqlite3 {self.path} "
                f"'PRAGMA wal_checkpoint(TRUNCATE)'. If not, move it away"
            )
        if known.wal and found.wal != known.wal:
            fields = {"event": "wal_missing", "path": f"{self.path}-wal"}
            logger.warning(
                "the -wal was deleted or moved, or sqlite3 has brought its events into the log", extra=fields
            )
        if known.wal and found != known:
            with suppress(FileNotFoundError):
                os.unlink(self.path + "-shm")  # made for another -wal; SQLite makes it anew from this one

    def _refuse_files_of_another(self, found: Files, known: Files) -> None:
        if {found.wal, found.shm} & {known.wal, known.shm} - {None}:
            raise BlockingIOError(
                f"{self.path}-wal and -shm belong to the log that was here before. Move them to that log, "
                f"or restart all that has it open"
            )

    def _share(self, found: Files) -> None:
        if found != noted(self.path):
            note(self.path, found)
        self._opened = found
        fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _release(self) -> None:
        self._close_descriptor()
        self._opened = Files()

    def _note_settled(self) -> None:
        """Note that all events are in the log's file. The number of a -wal that is gone will be another file's."""
        log, wal, _ = self._opened
        if noted(self.path)[:2] == (log, wal):
            note(self.path, Files(log, wal if files_at(self.path).wal == wal else None))


def _in_use(path: str) -> str:
    return (
        f"{path}, its -wal or its -shm was moved, deleted or replaced, and a process still uses the one before. "
        f"If this goes on, restart all that has the log open"
    )


_shared: "WeakValueDictionary[str, SharedFiles]" = WeakValueDictionary()


def shared_files(path: str) -> SharedFiles:
    """Return this process's one object for the log at `path`, a real path."""
    return _shared.setdefault(path, SharedFiles(path))
