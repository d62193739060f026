"""Split a batch until the events that a destination rejects are found."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from eventlog import DeadLetter, StoredEvent
from eventlog.times import now

from .attempts import Attempts, GaveUp, delay
from .delivery import DeliveryRejected
from .open_destination import OpenDestination

GIVE_UP_SECONDS = 24 * 3600.0  # of server faults, until one event is suspected as their cause

logger = logging.getLogger("tracklog.forwarding")

#: Called in order with the id of the last event done, the number delivered, and the dead letters.
RecordProgress = Callable[[int, int, Sequence[DeadLetter]], object]


class Splitter:
    """Delivers batches whole, and halves those that are rejected or cause server faults."""

    def __init__(self, destination: OpenDestination, attempts: Attempts, give_up_after: float) -> None:
        self._destination = destination
        self._attempts = attempts
        self._give_up_after = give_up_after  # seconds of server faults

    def deliver(self, events: Sequence[StoredEvent], record_progress: RecordProgress) -> None:
        """Deliver each event or make it a dead letter. Raises Interrupted if delivery must end before."""
        self._attempts.by_event.clear()
        give_up_after = self._give_up_after
        parts = deque([events] if events else [])
        while parts:
            part = parts.popleft()
            try:
                rejected, dropped, _ = self._attempts.deliver(part, give_up_after)
            except DeliveryRejected as failure:
                is_server_fault = isinstance(failure, GaveUp)
                if is_server_fault:
                    give_up_after = 0.0
                if len(part) > 1:
                    middle = len(part) // 2
                    parts.extendleft([part[middle:], part[:middle]])
                    continue
                if is_server_fault and not self._is_answered(chain(*parts)):
                    parts.appendleft(part)
                    self._attempts.wait(delay(self._attempts.by_event[part[0].id]))
                    continue
                rejected, dropped = {0: (failure.code, failure.message)}, 0
            dead = [self._dead_letter(part[index], *why) for index, why in rejected.items()]
            record_progress(part[-1].id, len(part) - len(dead) - dropped, dead)

    def _is_answered(self, events: Iterable[StoredEvent]) -> bool:
        """Return True if the destination answers the first of these events that it gets, without a server fault.

        Then the fault of the event before it is that event's own. This one is delivered again, which is harmless.
        """
        try:
            return any(self._attempts.deliver([event], 0.0).is_answer for event in events)
        except DeliveryRejected as failure:
            return not isinstance(failure, GaveUp)

    def _dead_letter(self, event: StoredEvent, code: str, message: str) -> DeadLetter:
        name, redact = self._destination.name, self._destination.redact
        code, message = redact(code), redact(message)
        fields = {"event": "dead_letter", "destination": name, "code": code, "id": event.id, "count": 1}
        logger.warning("%s rejects event %d: %s: %s", name, event.id, code, message, extra=fields)
        return DeadLetter(event, code, message, self._attempts.by_event[event.id], now())
