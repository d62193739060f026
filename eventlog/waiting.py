"""Wait for locks of other processes, with a limit, while the other requests of this process go on."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

import apsw

from .side_files import open_side_file

WAIT_SECONDS = 4.0  # until a call that needs a lock raises Unavailable
RETRY_SECONDS = 0.001  # between two attempts, or two slices of work; gevent polls its sockets in this, not in sleep(0)

T = TypeVar("T")


def retry_until(deadline: float, attempt: Callable[[], T]) -> T:
    """Return the result of `attempt`, and repeat it while another process holds a lock.

    Raises the BusyError or BlockingIOError of the last attempt at `deadline`, a time of the monotonic clock. Attempts
    once if that is past.
    """
    while True:
        try:
            return attempt()
        except (apsw.BusyError, BlockingIOError):
            if monotonic() >= deadline:
                raise
            time.sleep(RETRY_SECONDS)


def lock_file(descriptor: int, deadline: float = 0.0) -> None:
    """Lock an open file exclusively. Raise BlockingIOError if another process still holds it at `deadline`.

    The kernel releases the lock when the process dies or closes the file.
    """
    retry_until(deadline, lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))


class WriteQueue:
    """The queue in which all processes that write to the log wait for their turn.

    It is a lock on a file next to the log. SQLite's own lock wakes waiting processes late and out of order. The lock is
    not on the log's own file, because closing a second descriptor of that drops SQLite's locks on it.
    """

    def __init__(self, log: str) -> None:
        self._log = log
        self._descriptor: int | None = None

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """Hold the lock until the block ends or releases it. Raise BlockingIOError if it is not free by `deadline`."""
        if self._descriptor is None:
            self._descriptor = open_side_file(self._log, self._log + "-queue", os.O_RDONLY)
        lock_file(self._descriptor, deadline)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """End the turn. Do nothing if it has ended."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file. The next turn opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
