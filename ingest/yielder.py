"""Let the other requests of a process run during long work."""

import time
from time import monotonic


class Yielder:
    """Yields to other requests. Call it often during long work: it sleeps for 1 ms after each 10 ms."""

    WORK_SECONDS = 0.01
    SLEEP_SECONDS = 0.001  # sleep(0) would not let gevent look at its sockets

    def __init__(self) -> None:
        self._until = monotonic() + self.WORK_SECONDS

    def __call__(self) -> None:
        if monotonic() > self._until:
            time.sleep(self.SLEEP_SECONDS)
            self._until = monotonic() + self.WORK_SECONDS
