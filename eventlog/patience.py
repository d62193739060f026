"""Wait for what another process holds, for a bounded time, and let the other requests of this one go on."""

import time
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import apsw

PATIENCE = 4.0  # seconds that anything waits for its turn before it is Unavailable
NAP = 0.001  # seconds between two tries, or slices of work; sleep(0) would not let gevent look at its sockets

T = TypeVar("T")


def patiently(attempt: Callable[[], T], deadline: float) -> T:
    """Return what `attempt` does, tried again while somebody has a lock; at `deadline` raise as it does."""
    while True:
        try:
            return attempt()
        except (apsw.BusyError, BlockingIOError):
            if monotonic() >= deadline:
                raise
            time.sleep(NAP)
