"""One set of the log's three files for all connections of all processes.

A log's file, its -wal and its -shm are one unit, but SQLite finds the last two by name. If one of them is moved,
deleted or replaced while the log is in use, the next connection opens another file in its place. The two connections
then do not see each other's writes. Within one process SQLite even mixes them: it keeps one -shm per log file for as
long as any connection has that file open. So a process closes every connection that it has before it opens one to
other files. It opens other files only while no process has the log open: each holds a shared lock on the log.
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

from .errors import Unavailable
from .file_identity import Files, Identity, find_files, read_note, write_note
from .side_files import open_side_file
from .waiting import lock_file

WAL_VERSIONS = b"\x02\x02"  # bytes 18 and 19 of a log in WAL mode: SQLite's read and write versions
RENEW_SECONDS = 0.25  # between two reads of the note

logger = logging.getLogger("tracklog.eventlog")


class ConnectionOwner(Protocol):
    """An object that has at most one connection to the log."""

    def close_if_moved(self) -> None:
        """Close the connection if its files were moved and no request uses it."""


class SharedFiles:
    """The log's three files that this process has open, and its connections to them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.owners: WeakSet[ConnectionOwner] = WeakSet()
        self._connections: set[apsw.Connection] = set()
        self._opened = Files()
        self._renew_at = 0.0
        # Closing any descriptor of the log's file drops SQLite's locks on it, so this one outlives all connections.
        # https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
        self._descriptor = -1
        self._close_descriptor: Callable[[], object] = lambda: None

    def are_in_place(self) -> bool:
        """Return True if the files that this process has open are those at the path."""
        return find_files(self.path) == self._opened

    def create(self) -> None:
        """Create an empty file for a new log if there is none. The caller holds the write queue.

        Raises BlockingIOError if the path has a -wal or -shm of another log.
        """
        if not os.path.exists(self.path):
            self._refuse_files_of_another(find_files(self.path), read_note(self.path))
            os.close(open_side_file(self.path, self.path))

    def open(self, connect: Callable[[], apsw.Connection]) -> apsw.Connection:
        """Return a connection made by `connect`. The caller holds the write queue.

        Raises BlockingIOError while this or another process has other files open. The caller should then try again.
        Raises Unavailable if the -wal at the path belongs to another log.
        """
        with self._lock:
            is_first = not self._connections
            connection = None
            try:
                expected = self._lock_log() if is_first else self._opened
                connection = connect()
                found = find_files(self.path)
                if found[: len(expected)] != expected or None in found:
                    raise BlockingIOError(_in_use(self.path))
                if is_first:
                    if found != read_note(self.path):
                        write_note(self.path, found)
                    self._opened = found
                    self._share_lock()
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
        """Close a connection. If the files are not in place, call `checkpoint_moved_file` first."""
        with self._lock:
            if find_files(self.path).wal not in (self._opened.wal, None):
                # SQLite deletes the -wal by its name, and the one at the path is not that of this connection.
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close(True)
            self._connections.discard(connection)
            if not self._connections:
                if find_files(self.path).wal is None:
                    self._note_checkpointed()
                self._release()

    def checkpoint_moved_file(self, connection: apsw.Connection) -> None:
        """Copy all events of the WAL into the log's file, wherever that is now. The caller holds the write queue.

        Raises BusyError while a reader needs the WAL. Afterwards the -wal is empty, so it harms no log that is put
        next to it. If the log is no longer at the path, its -wal and -shm are deleted there.
        """
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        found = find_files(self.path)
        if found.log != self._opened.log:
            # In this order: SQLite would open another log at the path with a -shm that has no -wal.
            for end, identity, ours in (("-shm", found.shm, self._opened.shm), ("-wal", found.wal, self._opened.wal)):
                if identity == ours:
                    with suppress(FileNotFoundError):
                        os.unlink(self.path + end)
        if not self.are_in_place():
            self._note_checkpointed()

    def close_if_moved(self) -> None:
        """Close all connections that no request uses, if the files were moved."""
        if self._connections and self.are_in_place():
            self.renew_note()
        elif self._connections:
            for owner in list(self.owners):
                owner.close_if_moved()

    def renew_note(self) -> None:
        """Correct the note if the files were moved away and back while another process noted a checkpoint.

        That process cannot open the log until then. Call this at each use: it reads the note a few times a second.
        """
        if self._connections and monotonic() >= self._renew_at:
            self._renew_at = monotonic() + RENEW_SECONDS
            if read_note(self.path) != self._opened:
                write_note(self.path, self._opened)

    def _lock_log(self) -> tuple[Identity, ...]:
        """Lock the log's file. Return the files that a connection must find: the log, and those that are in use."""
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._close_descriptor = finalize(self, os.close, self._descriptor)  # a log may be dropped without a close
        try:
            lock_file(self._descriptor)
            is_in_use = False
        except BlockingIOError:
            self._share_lock()
            is_in_use = True
        # Look only now: a process that closes the log changes both before it releases its lock.
        found, known = find_files(self.path), read_note(self.path)
        if not is_in_use:
            self._check_files(found, known)
            return found[:1]
        if found != known:
            raise BlockingIOError(_in_use(self.path))
        return known

    def _share_lock(self) -> None:
        """Lock the log's file together with other processes. Raise BlockingIOError if one holds it exclusively."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _check_files(self, found: Files, known: Files) -> None:
        """Check that the -wal and -shm are the log's, which no process has open. Delete an old -shm."""
        # A backup is not in WAL mode. Copied over the log, or in its place, it may have the log's inode number.
        if found.wal and os.path.getsize(self.path + "-wal") and os.pread(self._descriptor, 2, 18) != WAL_VERSIONS:
            raise Unavailable(f"{self.path}-wal and -shm belong to the log that was here before. Move them away")
        if found.log != known.log:
            self._refuse_files_of_another(found, known)
            return
        if found.wal != known.wal and found.wal and os.path.getsize(self.path + "-wal"):
            raise Unavailable(
                f"{self.path}-wal is not the one that tracklog has written. If it belongs to this log, because both "
                f"were restored or sqlite3 wrote it, run: sqlite3 {self.path} "
                f"'PRAGMA wal_checkpoint(TRUNCATE)'. Otherwise move it away"
            )
        if known.wal and found.wal != known.wal:
            fields = {"event": "wal_missing", "path": f"{self.path}-wal"}
            logger.warning("the -wal was deleted or moved, or sqlite3 has copied its events into the log", extra=fields)
        if known.wal and found != known:
            with suppress(FileNotFoundError):
                os.unlink(self.path + "-shm")  # of another -wal; SQLite creates it again from this one

    def _refuse_files_of_another(self, found: Files, known: Files) -> None:
        if {found.wal, found.shm} & {known.wal, known.shm} - {None}:
            raise BlockingIOError(
                f"{self.path}-wal and -shm belong to the log that was here before. Move them to that log, "
                f"or restart every process that has it open"
            )

    def _release(self) -> None:
        self._close_descriptor()
        self._opened = Files()

    def _note_checkpointed(self) -> None:
        """Note that all events are in the log's file. The inode of a deleted -wal is not kept: it can be reused."""
        log, wal, _ = self._opened
        if read_note(self.path)[:2] == (log, wal):
            write_note(self.path, Files(log, wal if find_files(self.path).wal == wal else None))


def _in_use(path: str) -> str:
    return (
        f"{path}, its -wal or its -shm was moved, deleted or replaced, and a process still uses the old one. "
        f"If this continues, restart every process that has the log open"
    )


_shared: "WeakValueDictionary[str, SharedFiles]" = WeakValueDictionary()


def shared_files(path: str) -> SharedFiles:
    """Return this process's only object for the log at `path`, a real path."""
    return _shared.setdefault(path, SharedFiles(path))
