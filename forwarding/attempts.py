"""Settle events with a destination: retry, split and blame, until each is delivered or refused for good."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from time import monotonic

from eventlog import DeadLetter, StoredEvent
from eventlog.times import now

from .backoff import delay
from .delivery import DeliveryRejected, Kind, RetryLater, Settled
from .threads import start

GIVE_UP_AFTER = 24 * 3600.0  # seconds of server faults before it is asked whether one event is their cause
TRIES_ONCE = 5  # in a row, of a forwarder that is to drain and end
LOOK = 0.2  # seconds between two looks at whether to go on, while a destination is waited for
GRACE = 0.5  # seconds that a delivery under way has to end well, and then to end at all

logger = logging.getLogger("tracklog.forwarding")

#: Called with the last event's id of some that are settled, how many were delivered, and those that were refused.
Note = Callable[[int, int, Sequence[DeadLetter]], object]


class Interrupted(Exception):
    """The events cannot be settled now: the forwarder is to stop, or its destination is another than it was."""


class _GaveUp(Exception):
    """Server faults for too long: one of the events may be their cause."""


class Attempts:
    """Delivers events by one kind, each until it is acknowledged or refused for good.

    `go_on` raises Interrupted where that is no longer to be done; it is asked before each attempt, and all the time
    while a destination is waited for. What is under way then has GRACE to end, and is aborted after that; what it had
    delivered may be delivered again. `note_failure` hears of each attempt that failed. `hide` strikes secrets out of
    what a destination says.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        stop: threading.Event,
        go_on: Callable[[], object],
        note_failure: Callable[[str], object],
        hide: Callable[[str], str],
        once: bool,
        give_up_after: float,
    ) -> None:
        self._name = name
        self._kind = kind
        self._stop = stop
        self._go_on = go_on
        self._note_failure = note_failure
        self._hide = hide
        self._once = once
        self._give_up_after = give_up_after
        self._tries: Counter[int] = Counter()
        self._failures = 0  # since the destination last took something

    def settle(self, events: Sequence[StoredEvent], note: Note) -> None:
        """Deliver events; a group that is refused is split until the guilty stand alone."""
        self._tries.clear()
        groups, impatient = deque([events] if events else []), False
        while groups:
            group = groups.popleft()
            try:
                refused = self._deliver(group, impatient).refused
                dead = [self._dead_letter(group[index], *why) for index, why in refused.items()]
                note(group[-1].id, len(group) - len(dead), dead)
            except DeliveryRejected as refusal:
                if len(group) > 1:
                    groups.extendleft(reversed(_halves(group)))
                else:
                    note(group[0].id, 0, [self._dead_letter(group[0], refusal.code, refusal.message)])
            except _GaveUp as fault:
                impatient = True
                if len(group) > 1:
                    groups.extendleft(reversed(_halves(group)))
                elif self._passes(groups):
                    note(group[0].id, 0, [self._dead_letter(group[0], "server_fault", str(fault))])
                else:
                    groups.appendleft(group)
                    self._wait(delay(self._tries[group[0].id]))

    def _passes(self, groups: deque[Sequence[StoredEvent]]) -> bool:
        """Tell whether the event after one that gets a server fault is taken; it comes again, which does no harm."""
        if not groups:
            return False
        try:
            self._deliver(groups[0][:1], impatient=True)
        except DeliveryRejected:
            return True
        except _GaveUp:
            return False
        return True

    def _deliver(self, events: Sequence[StoredEvent], impatient: bool) -> Settled:
        failures, since = 0, monotonic()
        while True:
            self._go_on()
            self._tries.update(event.id for event in events)
            try:
                settled = self._try(events)
            except RetryLater as later:
                failures += 1
                error = self._hide(str(later))
                self._note_failed(error)
                if later.is_server_fault and (impatient or monotonic() - since >= self._give_up_after):
                    raise _GaveUp(error) from later
                if self._once and failures == TRIES_ONCE:
                    raise Interrupted(error) from later
                self._wait(delay(failures, later.retry_after))
            else:
                self._note_recovered()
                return settled

    def _try(self, events: Sequence[StoredEvent]) -> Settled:
        delivery = start(lambda: self._kind.deliver(events))
        while not _has_ended(delivery, LOOK):
            try:
                self._go_on()
            except Interrupted as interruption:
                return self._end(delivery, interruption)
        return delivery.result()

    def _end(self, delivery: "Future[Settled]", interruption: Interrupted) -> Settled:
        """Return what a delivery under way comes to within GRACE; else abort it, and raise the interruption."""
        if not _has_ended(delivery, GRACE):
            is_over = self._kind.abort()
            while not (_has_ended(delivery, GRACE) or is_over or self._stop.is_set()):
                pass  # what goes on could overtake what comes next
        if delivery.done() and not delivery.exception():
            return delivery.result()
        raise interruption

    def _note_failed(self, error: str) -> None:
        self._note_failure(error)
        self._failures += 1
        if self._failures == 1:
            fields = {"event": "destination_failing", "destination": self._name, "error": error}
            logger.warning("%s fails: %s", self._name, error, extra=fields)

    def _note_recovered(self) -> None:
        if self._failures:
            failures, self._failures = self._failures, 0
            fields = {"event": "destination_recovered", "destination": self._name, "failures": failures}
            logger.warning("%s has recovered after %d failures", self._name, failures, extra=fields)

    def _wait(self, seconds: float) -> None:
        """Wait, but no longer than the destination is to be delivered to."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self._go_on()
            self._stop.wait(min(left, LOOK))

    def _dead_letter(self, event: StoredEvent, code: str, message: str) -> DeadLetter:
        code, message = self._hide(code), self._hide(message)
        fields = {"event": "dead_letter", "destination": self._name, "code": code, "id": event.id, "count": 1}
        logger.warning("%s refuses event %d: %s: %s", self._name, event.id, code, message, extra=fields)
        return DeadLetter(event, code, message, self._tries[event.id], now())


def _has_ended(delivery: "Future[Settled]", seconds: float) -> bool:
    return bool(wait([delivery], seconds).done)


def _halves(events: Sequence[StoredEvent]) -> list[Sequence[StoredEvent]]:
    middle = len(events) // 2
    return [events[:middle], events[middle:]]
