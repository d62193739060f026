"""Run a forwarder for each destination, in a thread of its own."""

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from eventlog import Destination, EventLog, NotPossible, Unavailable
from telemetry.storage_trouble import explain_failure

from .forwarder import Forwarder
from .secrets import make_redactor
from .splitting import GIVE_UP_SECONDS

LIST_SECONDS = 0.25  # between two reads of the list of destinations
REOPEN_SECONDS = 10.0  # until a destination that could not be opened is tried again, unless it is changed first

logger = logging.getLogger("tracklog.forwarding")


def forward(
    path: str,
    names: Sequence[str],
    *,
    stop: threading.Event,
    once: bool = False,
    give_up_after: float = GIVE_UP_SECONDS,
    report: Callable[[int], object] = lambda advanced: None,
) -> bool:
    """Deliver to the destinations with these names, or to all, including those added later.

    Returns when `stop` is set, or with `once` as soon as nothing can be delivered. Return True if nothing is left to
    deliver to any of them. `give_up_after` is in seconds. The threads call `report`, see Forwarder.
    """
    make_forwarder = partial(Forwarder, stop=stop, once=once, give_up_after=give_up_after, report=report)
    log = EventLog(path)
    runs: dict[str, _Run] = {}
    try:
        while not stop.is_set():
            try:
                destinations = [each for each in log.destinations.all() if not names or each.name in names]
            except Unavailable:  # the running forwarders log it and wait
                if not runs:
                    raise
                destinations = []
            for destination in destinations:
                if destination.name not in runs or (not once and runs[destination.name].is_over(destination)):
                    runs[destination.name] = _Run(path, destination, make_forwarder)
            if once:
                break
            stop.wait(LIST_SECONDS)
    finally:
        for each in runs.values():
            each.thread.join()
        log.close()
    return all(each.is_done for each in runs.values())


class _Run:
    """Runs a destination's forwarder once, in a thread."""

    def __init__(self, path: str, destination: Destination, make_forwarder: Callable[..., Forwarder]) -> None:
        self.is_done = False  # True if nothing was left to deliver
        self._path = path
        self._destination = destination
        self._make_forwarder = make_forwarder
        self._reopen_at = 0.0  # by the monotonic clock
        self.thread = threading.Thread(target=self._deliver, name=destination.name)
        self.thread.start()

    def is_over(self, destination: Destination) -> bool:
        """Return True if the destination, which is now this row, needs another run."""
        if self.thread.is_alive():
            return False
        return monotonic() >= self._reopen_at or _settings(destination) != _settings(self._destination)

    def _deliver(self) -> None:
        log, name = EventLog(self._path), self._destination.name
        try:
            self.is_done = self._make_forwarder(log, name).run()
        except (NotPossible, Unavailable) as failure:
            if isinstance(failure, NotPossible):
                self._reopen_at = monotonic() + REOPEN_SECONDS
            reason = explain_failure(failure)
            logger.error("%s", reason, extra={"event": "forwarder_refused", "destination": name, "count": 1})
        except Exception:
            self._reopen_at = monotonic() + REOPEN_SECONDS
            fault = make_redactor(self._destination.url, self._destination.headers)(traceback.format_exc())
            fields = {"event": "forwarder_failed", "destination": name, "count": 1, "traceback": fault}
            logger.error("the forwarder of %s failed", name, extra=fields)
            with suppress(Unavailable):
                log.destinations.note_failure(self._destination.id, f"The forwarder failed: {fault.splitlines()[-1]}")
        finally:
            log.close()


def _settings(destination: Destination) -> tuple[object, ...]:
    """Return the columns that an operator sets."""
    each = destination
    rules = each.types, each.sources, each.event_rules
    return each.id, each.url, each.headers, *rules, each.paused, each.resumed_at
