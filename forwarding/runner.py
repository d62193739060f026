"""Run a forwarder for each destination, for those that there are and those that come."""

import logging
import threading
from collections.abc import Callable, Sequence

from eventlog import EventLog, NotPossible, Unavailable

from .forwarder import GIVE_UP_AFTER, Forwarder

TROUBLED = 10.0  # seconds before a destination that could not even be opened is tried again

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
    outcomes: dict[str, bool] = {}
    threads: dict[str, threading.Thread] = {}

    def deliver(name: str) -> None:
        own = EventLog(path)
        try:
            outcomes[name] = Forwarder(
                own, name, stop=stop, once=once, give_up_after=give_up_after, report=report
            ).run()
        except NotPossible as failure:
            logger.error("%s", failure, extra={"event": "forwarder_refused", "destination": name, "count": 1})
            stop.wait(0 if once else TROUBLED)
        except Exception:
            fields = {"event": "forwarder_failed", "destination": name, "count": 1}
            logger.exception("the forwarder of %s has failed", name, extra=fields)
            stop.wait(0 if once else TROUBLED)
        finally:
            own.close()

    wanted = names
    try:
        while not stop.is_set():
            try:
                wanted = names or [destination.name for destination in log.destinations.all()]
            except Unavailable:  # those that are there wait until it is over, and say so
                if not threads:
                    raise
            for name in wanted:
                if name not in threads or not (once or threads[name].is_alive()):
                    threads[name] = threading.Thread(target=deliver, args=(name,), name=name)
                    threads[name].start()
            if once:
                break
            stop.wait(1)
    finally:
        for thread in threads.values():
            thread.join()
        log.close()
    return all(outcomes.get(name) for name in threads)
