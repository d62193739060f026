"""Bounded waits for locks, in which other requests of the process go on."""

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
