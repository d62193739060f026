"""Deliver a batch to a destination, and retry until it gives a final answer."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from time import monotonic

from eventlog import StoredEvent

from .delivery import DeliveryRejected, Outcome, RetryLater
from .open_destination import Interrupted, OpenDestination
from .threads import run_in_thread

MAX_TRIES_ONCE = 5  # attempts in a row, of a forwarder that runs once
CHECK_SECONDS = 0.2  # between two checks whether to go on, while a delivery or a wait is under way
GRACE_SECONDS = 0.5  # for a running delivery to end by itself, and then to end after `abort`
FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 300.0
MAX_RETRY_AFTER_SECONDS = 3600.0  # a destination that asks for more gets this


class GaveUp(DeliveryRejected):
    """Raised after server faults for `give_up_after` seconds. A single event may be their cause."""

    def __init__(self, error: str) -> None:
        super().__init__("server_fault", error)


class Attempts:
    """Delivers batches to one destination, one at a time, each until the answer is final.

    `check` raises Interrupted if delivery must end. It is called before each attempt and every CHECK_SECONDS during
    attempts and waits. An interrupted delivery may have reached the destination.
    """

    def __init__(self, destination: OpenDestination, check: Callable[[], object], once: bool) -> None:
        self.by_event: Counter[int] = Counter()  # the number of attempts, by event id
        self._destination = destination
        self._check = check
        self._once = once

    def deliver(self, events: Sequence[StoredEvent], give_up_after: float) -> Outcome:
        """Deliver a batch, waiting longer after each failure.

        Raises DeliveryRejected if the batch is rejected, GaveUp after `give_up_after` seconds of server faults, and
        Interrupted if delivery must end or, for a forwarder that runs once, after MAX_TRIES_ONCE failures.
        """
        failures, began = 0, monotonic()
        while True:
            self._check()
            self.by_event.update(event.id for event in events)
            try:
                outcome = self._try(events)
            except RetryLater as failure:
                failures += 1
                error = self._destination.redact(str(failure))
                self._destination.note_failure(error)
                if failure.is_server_fault and monotonic() - began >= give_up_after:
                    raise GaveUp(error) from failure
                if self._once and failures == MAX_TRIES_ONCE:
                    raise Interrupted(error) from failure
                self.wait(delay(failures, failure.retry_after))
            else:
                if outcome.is_answer:
                    self._destination.note_success()
                return outcome

    def wait(self, seconds: float) -> None:
        """Sleep, unless delivery must end: then raise Interrupted."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self._check()
            self._destination.stop.wait(min(left, CHECK_SECONDS))

    def _try(self, events: Sequence[StoredEvent]) -> Outcome:
        delivery = run_in_thread(lambda: self._destination.deliverer.deliver(events))
        while not wait([delivery], CHECK_SECONDS).done:
            try:
                self._check()
            except Interrupted:
                self._end(delivery)
                if delivery.done() and not delivery.exception():
                    break  # it reached the destination, so it counts
                raise
        return delivery.result()

    def _end(self, delivery: "Future[Outcome]") -> None:
        """Give a running delivery GRACE_SECONDS to end, then abort it.

        Unless the forwarder stops, also wait for an aborted delivery that can still send: it could overtake the next.
        """
        if not wait([delivery], GRACE_SECONDS).done:
            is_over = self._destination.deliverer.abort()
            while not (wait([delivery], GRACE_SECONDS).done or is_over or self._destination.stop.is_set()):
                pass


def delay(failures: int, retry_after: float | None = None) -> float:
    """Return the seconds to wait after this many failures in a row.

    They double with each failure, less up to half at random, but are at least `retry_after`.
    """
    longest = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 20))
    return max(longest * random.uniform(0.5, 1), min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
