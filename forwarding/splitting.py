"""Deliver batches to a destination that may reject some or all of their events."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
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

    def probe(self, events: Sequence[StoredEvent], record_progress: RecordProgress) -> None:
        """Try the first event of a refusing destination, and if that is refused, another one. Wait if none is taken.

        The other one is for a destination that works again while the first events are bad. Once it is taken, deliver
        the events before it, or make them dead letters. If a transform leaves none of the events, pass over them.
        """
        others = range(MAX_REFUSALS, len(events)) or range(1, len(events))
        for start in (0, *others[self._probes % len(others) :][:1]) if others else (0,):
            index, error = self._offer(events, start)
            if not error:
                break
            self._destination.note_failure(error)
        else:
            self._probes += 1
            self._attempts.back_off(self._probes, error)
            return
        if delivered := int(index < len(events)):
            self._probes = 0
        dead: list[DeadLetter] = []

        def collect(_last: int, number: int, letters: Sequence[DeadLetter]) -> None:
            nonlocal delivered
            delivered += number
            dead.extend(letters)

        self.deliver(events[:index], collect)
        record_progress(events[: index + 1][-1].id, delivered, dead)

    def _offer(self, events: Sequence[StoredEvent], start: int) -> tuple[int, str]:
        """Deliver one event: the first from `start` on, and then from 0 on, that a transform leaves.

        Return its index, or the number of events if there is none, and why it is refused; empty if it is not.
        """
        for index in (*range(start, len(events)), *range(start)):
            try:
                rejected, _, is_answer = self._attempts.deliver([events[index]], inf)
            except DeliveryRejected as failure:
                rejected, is_answer = {0: (failure.code, failure.message)}, True
            if is_answer:
                return index, self._destination.redact(": ".join(rejected[0])) if rejected else ""
        return len(events), ""

    def _is_answered(self, events: Iterable[StoredEvent]) -> bool:
        """Return True if the destination answers the first of these events that it gets, without a server fault.

        The event before it has then caused its own fault, and becomes a dead letter. `deliver` sends this one again.
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
