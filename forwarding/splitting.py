"""Deliver batches to a destination that may reject some or all of their events."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from eventlog import DeadLetter, StoredEvent
from eventlog.dead_letters import MAX_REFUSALS
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
        self._probes = 0  # of a refusing destination, in a row

    def deliver(self, events: Sequence[StoredEvent], record_progress: RecordProgress) -> None:
        """Deliver each event or make it a dead letter. Raises Interrupted or Refusing if delivery must end before."""
        self._attempts.by_event.clear()
        give_up_after = self._give_up_after
        parts = deque([events] if events else [])
        while parts:
            part = parts.popleft()
            try:
                rejected = self._attempts.deliver(part, give_up_after).rejected
            except DeliveryRejected as failure:
                is_server_fault = isinstance(failure, GaveUp)
                if is_server_fault:
                    give_up_after = 0.0
                if len(part) > 1:
                    middle = len(part) // 2
                    parts.extendleft([part[middle:], part[:middle]])
                    continue
                if is_server_fault and not (parts and self._is_answered(parts[0][0])):
                    parts.appendleft(part)
                    self._attempts.wait(delay(self._attempts.by_event[part[0].id]))
                    continue
                rejected = {0: (failure.code, failure.message)}
            dead = [self._dead_letter(part[index], *why) for index, why in rejected.items()]
            record_progress(part[-1].id, len(part) - len(dead), dead)

    def probe(self, events: Sequence[StoredEvent], record_progress: RecordProgress) -> None:
        """Try the first event of a refusing destination, and if that is refused, another one. Wait if none is taken.

        The other one is for a destination that works again while the first events are bad. Once it is taken, deliver
        the events before it, or make them dead letters.
        """
        others = range(MAX_REFUSALS, len(events)) or range(1, len(events))
        for index in (0, *others[self._probes % len(others) :][:1]) if others else (0,):
            if not (error := self._refusal(events[index])):
                break
            self._destination.note_failure(error)
        else:
            self._probes += 1
            self._attempts.back_off(self._probes, error)
            return
        self._probes, delivered = 0, 1
        dead: list[DeadLetter] = []

        def collect(_last: int, number: int, letters: Sequence[DeadLetter]) -> None:
            nonlocal delivered
            delivered += number
            dead.extend(letters)

        self.deliver(events[:index], collect)
        record_progress(events[index].id, delivered, dead)

    def _refusal(self, event: StoredEvent) -> str:
        """Deliver one event; return why it is refused, or an empty text if it is taken."""
        try:
            rejected = self._attempts.deliver([event], inf).rejected
        except DeliveryRejected as failure:
            rejected = {0: (failure.code, failure.message)}
        return self._destination.redact(": ".join(rejected[0])) if rejected else ""

    def _is_answered(self, event: StoredEvent) -> bool:
        """Return True if the destination answers this event without a server fault.

        The event before it has then caused its own fault, and becomes a dead letter. `deliver` sends this one again.
        """
        try:
            self._attempts.deliver([event], 0.0)
        except DeliveryRejected as failure:
            return not isinstance(failure, GaveUp)
        return True

    def _dead_letter(self, event: StoredEvent, code: str, message: str) -> DeadLetter:
        name, redact = self._destination.name, self._destination.redact
        code, message = redact(code), redact(message)
        fields = {"event": "dead_letter", "destination": name, "code": code, "id": event.id, "count": 1}
        logger.warning("%s rejects event %d: %s: %s", name, event.id, code, message, extra=fields)
        return DeadLetter(event, code, message, self._attempts.by_event[event.id], now())
