"""Bounded waits for locks, in which other requests of the process go on."""

import fcntl
import time
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import apsw

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
    """Lock an open file exclusively. Raise BlockingIOError if another process holds it until `deadline`.

    The kernel releases the lock when the process dies or closes the file.
    """
    retry_until(deadline, lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
