"""Checkpoints: the WAL is copied into the log's file while other requests and processes commit."""

import math
import threading
from contextlib import suppress
from functools import partial
from time import monotonic

import apsw

from .database import MAX_WAL_PAGES, Database
from .errors import Unavailable
from .waiting import WAIT_SECONDS

CHECKPOINT_PAGES = 4000  # start a checkpoint when the WAL holds this many pages that are not in the file
RETRY_PAGES = 1000  # try again after this many more, if a reader or another process kept the last one from finishing
MAX_LOCKED_PAGES = 1000  # that may be left to copy while no process writes; takes about 40 ms
FULL_DISK_SECONDS = 1.0  # between two checkpoints while the disk is full


class Checkpointer:
    """Starts checkpoints when they are due, one at a time. Commits do not use its connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due_at_pages = CHECKPOINT_PAGES
        self._next_on_full_disk = 0.0
        self._is_running = threading.Lock()

    def start_if_due(self, wal_pages: int) -> None:
        """Start a checkpoint if the WAL has enough pages that are not in the file. Call it after each commit."""
        if wal_pages < CHECKPOINT_PAGES:
            self._due_at_pages = CHECKPOINT_PAGES
        elif wal_pages >= self._due_at_pages:
            self._due_at_pages = wal_pages + RETRY_PAGES
            self._database.runtime.start(self._run)

    def start_on_full_disk(self) -> None:
        """Start a checkpoint to make room in the WAL. No commit does, since none succeeds."""
        if monotonic() >= self._next_on_full_disk:
            self._next_on_full_disk = monotonic() + FULL_DISK_SECONDS
            self._database.runtime.start(self._run)

    def wait(self) -> None:
        """Return when no checkpoint of this process runs, or after WAIT_SECONDS."""
        if self._is_running.acquire(timeout=WAIT_SECONDS):
            self._is_running.release()

    def _run(self) -> None:
        if self._is_running.acquire(blocking=False):
            try:
                with suppress(Unavailable):
                    checkpoint(self._database)
            finally:
                self._is_running.release()


def checkpoint(database: Database) -> None:
    """Copy the WAL into the log's file. The next commit then writes at the WAL's start again.

    Most pages are copied while other processes commit, and those committed meanwhile under the write lock. Usually
    these are few. Under sustained load more are accepted, since the WAL would otherwise grow without limit.
    Stops early if a reader still needs pages of the WAL, or another process copies it. Raises Unavailable.
    """
    with database.connection(monotonic() + WAIT_SECONDS) as connection, suppress(apsw.BusyError):
        copy_pages = partial(connection.wal_checkpoint, mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        copied, new_pages = 0, math.inf
        while new_pages >= MAX_LOCKED_PAGES:
            copied_before, new_before = copied, new_pages
            pages, copied = database.runtime.run_blocking(copy_pages)
            if copied < pages:
                return
            new_pages = copied - copied_before
            if new_pages >= new_before and pages >= MAX_WAL_PAGES:
                break
        with database.queue.turn(monotonic() + WAIT_SECONDS):
            database.runtime.run_blocking(copy_pages)
