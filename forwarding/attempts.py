"""Deliver a batch to a destination, and retry until it gives a final answer."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic

from eventlog import StoredEvent

from .backoff import delay
from .delivery import Outcome, RetryLater
from .open_destination import Interrupted, OpenDestination
from .threads import has_ended, run_in_thread

MAX_TRIES_ONCE = 5  # attempts in a row, of a forwarder that runs once
CHECK_SECONDS = 0.2  # between two checks whether to go on, while a delivery or a wait is under way
GRACE_SECONDS = 0.5  # for a running delivery to end by itself, and then to end after `abort`


class GaveUp(Exception):
    """Raised after server faults for `give_up_after` seconds. A single event may be their cause."""


class Attempts:
    """Delivers batches to one destination, one at a time, each until the answer is final.

    `check` raises Interrupted if delivery must end. It is called before each attempt and every CHECK_SECONDS during
    attempts and waits. An interrupted delivery may have reached the destination.
    """

    def __init__(self, destination: OpenDestination, check: Callable[[], object], once: bool) -> None:
        self._destination = destination
        self._check = check
        self._once = once

    def deliver(self, events: Sequence[StoredEvent], give_up_after: float, tries: Counter[int]) -> Outcome:
        """Deliver a batch, waiting longer after each failure. Add each attempt to `tries`, by event id.

        Raises DeliveryRejected if the batch is rejected, GaveUp after `give_up_after` seconds of server faults, and
        Interrupted if delivery must end or, for a forwarder that runs once, after MAX_TRIES_ONCE failures.
        """
        failures, began = 0, monotonic()
        while True:
            self._check()
            tries.update(event.id for event in events)
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
        while not has_ended(delivery, CHECK_SECONDS):
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
        if not has_ended(delivery, GRACE_SECONDS):
            is_over = self._destination.deliverer.abort()
            while not (has_ended(delivery, GRACE_SECONDS) or is_over or self._destination.stop.is_set()):
                pass
