"""Run a forwarder for each destination, for those that there are and those that come."""

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from time import monotonic

from eventlog import Destination, EventLog, NotPossible, Unavailable

from .attempts import GIVE_UP_AFTER
from .forwarder import Forwarder
from .secrets import hider

LOOK = 0.25  # seconds between two looks at which destinations there are
TROUBLED = 10.0  # seconds before a destination that could not be opened is tried again, unless it is changed

logger = logging.getLogger("tracklog.forwarding")


def forward(
    path: str,
    names: Sequence[str],
    *,
    stop: threading.Event,
    once: bool = False,
    give_up_after: float = GIVE_UP_AFTER,
    report: Callable[[int], object] = lambda settled: None,
) -> bool:
    """Deliver to the destinations of these names, or to all that there are and will be, each in a thread of its own.

    Returns when told to stop, or, if it is to do so once, when nothing waits or can be delivered; tells whether
    nothing is left, in any of them.
    """
    log = EventLog(path)
    runs: dict[str, _Run] = {}

    def run(log: EventLog, name: str) -> bool:
        return Forwarder(log, name, stop=stop, once=once, give_up_after=give_up_after, report=report).run()

    try:
        while not stop.is_set():
            try:
                destinations = [each for each in log.destinations.all() if not names or each.name in names]
            except Unavailable:  # those that are there wait until it is over, and say so
                if not runs:
                    raise
                destinations = []
            for destination in destinations:
                if destination.name not in runs or (not once and runs[destination.name].is_over(destination)):
                    runs[destination.name] = _Run(path, destination, run)
            if once:
                break
            stop.wait(LOOK)
    finally:
        for each in runs.values():
            each.thread.join()
        log.close()
    return all(each.is_done for each in runs.values())


class _Run:
    """One run of a destination's forwarder, in a thread."""

    def __init__(self, path: str, destination: Destination, run: Callable[[EventLog, str], bool]) -> None:
        self.is_done = False  # nothing was left to deliver
        self._path = path
        self._destination = destination
        self._run = run
        self._not_before = 0.0  # when the next may begin, by the monotonic clock
        self.thread = threading.Thread(target=self._deliver, name=destination.name)
        self.thread.start()

    def is_over(self, destination: Destination) -> bool:
        """Tell whether it is time for another run, for a destination as it is now."""
        if self.thread.is_alive():
            return False
        return monotonic() >= self._not_before or _settings(destination) != _settings(self._destination)

    def _deliver(self) -> None:
        log, name = EventLog(self._path), self._destination.name
        try:
            self.is_done = self._run(log, name)
        except NotPossible as failure:
            self._not_before = monotonic() + TROUBLED
            logger.error("%s", failure, extra={"event": "forwarder_refused", "destination": name, "count": 1})
        except Unavailable as failure:
            logger.error("%s", failure, extra={"event": "forwarder_refused", "destination": name, "count": 1})
        except Exception:
            self._not_before = monotonic() + TROUBLED
            fault = hider(self._destination.url)(traceback.format_exc())
            fields = {"event": "forwarder_failed", "destination": name, "count": 1, "traceback": fault}
            logger.error("the forwarder of %s has failed", name, extra=fields)
        finally:
            log.close()


def _settings(destination: Destination) -> tuple[object, ...]:
    """Return what an operator decides about a destination."""
    return destination.id, destination.url, destination.types, destination.sources, destination.paused
