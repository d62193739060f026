"""Bring one destination from where it is to the end of the log, and keep it there."""

import fcntl
import json
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from time import monotonic

from eventlog import DeadLetter, Destination, EventLog, NotPossible, StoredEvent, Unavailable
from eventlog.reasons import explain
from eventlog.side_files import open_side_file
from eventlog.times import age, now

from .backoff import delay
from .delivery import Kind, Later, Refused, Settled
from .urls import open_kind

POLL = 0.5  # seconds between two looks at a log of which everything is delivered
GIVE_UP_AFTER = 24 * 3600.0  # seconds of server faults before it is asked whether one event is their cause
TRIES_ONCE = 5  # in a row, of a forwarder that is to drain and end

NOTHING_AHEAD: tuple[int, "Future[list[StoredEvent]]"] = (-1, Future())

logger = logging.getLogger("tracklog.forwarding")


class _GaveUp(Exception):
    """Server faults for too long: one of the events may be their cause."""


class _Interrupted(Exception):
    """The forwarder is to stop, or its destination was paused or removed."""


class Forwarder:
    """Delivers to one destination: in order, each event until it is acknowledged or refused for good."""

    def __init__(
        self,
        log: EventLog,
        name: str,
        *,
        stop: threading.Event,
        once: bool = False,
        give_up_after: float = GIVE_UP_AFTER,
        report: Callable[[int], object] = lambda settled: None,
        open_kind: Callable[[str], Kind] = open_kind,
    ) -> None:
        self._log = log
        self._name = name
        self._stop = stop
        self._once = once
        self._give_up_after = give_up_after
        self._report = report
        self._open_kind = open_kind
        self._attempts: Counter[int] = Counter()
        self._reading = ThreadPoolExecutor(1)
        self._ahead = NOTHING_AHEAD  # events that are read already, and the position that they follow
        self._failures = 0  # since the destination last took something
        self._unavailable_since: float | None = None  # the log

    def run(self) -> bool:
        """Deliver until told to stop, or, if it is to do so once, until nothing waits; tell whether nothing does."""
        with self._alone(), self._kind_of(self._log.destinations.get(self._name)) as self._kind:
            while not self._stop.is_set():
                try:
                    has_settled = self._step()
                    self._note_available()
                    if not has_settled:
                        if self._once:
                            return self._is_done()
                        self._stop.wait(POLL)
                except _Interrupted:
                    if self._once:
                        return False
                except Unavailable as failure:
                    self._note_unavailable(failure)
                    self._stop.wait(POLL)
        return False

    def _is_done(self) -> bool:
        position = self._log.destinations.get(self._name).position
        return self._log.reader.waiting(position, 1)[0] == 0

    def redeliver(self, events: Sequence[StoredEvent]) -> list[DeadLetter]:
        """Deliver events past the position, which stays; return those that are refused for good.

        Raises NotPossible where the destination does not take them now.
        """
        destination = self._log.destinations.get(self._name)
        dead: list[DeadLetter] = []
        wanted = [event for event in events if _is_wanted(event, destination)]
        with self._kind_of(destination) as self._kind:
            try:
                for start in range(0, len(wanted), self._kind.most_events):
                    group = wanted[start : start + self._kind.most_events]
                    self._settle(group, lambda _position, _delivered, refused: dead.extend(refused))
            except _Interrupted as interrupted:
                raise NotPossible(f"{self._name} does not take it now: {interrupted}") from interrupted
        return dead

    def _step(self) -> bool:
        """Settle the next events, if there are any; tell whether there were."""
        destination = self._log.destinations.get(self._name)
        if destination.paused:
            return False
        events = self._next(destination)
        if not events:
            if destination.reserved is None:
                return False
            self._advance(destination.reserved, 0, ())  # all that its object was to have is forgotten
            return True
        last = events[-1].id
        if self._kind.reserves and destination.reserved is None:
            self._log.destinations.reserve(self._name, last)
        self._settle([event for event in events if _is_wanted(event, destination)], self._advance)
        self._advance(last, 0, ())
        self._report(last - destination.position)
        return True

    def _next(self, destination: Destination) -> list[StoredEvent]:
        if destination.reserved is not None:
            return self._log.reader.read_range(destination.position, destination.reserved)
        (position, ahead), self._ahead = self._ahead, NOTHING_AHEAD
        events = ahead.result() if position == destination.position else []
        events = events or self._read(destination.position)
        if events and not self._kind.patience:
            # While these are delivered, the next are read: a moment's work, and no transaction outlives it.
            self._ahead = events[-1].id, self._reading.submit(self._read, events[-1].id)
        return events

    def _read(self, position: int) -> list[StoredEvent]:
        reader, kind = self._log.reader, self._kind
        last, is_full = reader.measure(position, kind.most_events, kind.most_bytes)
        if kind.patience and not is_full and not self._once:
            _, oldest = reader.waiting(position, 0)
            if oldest is None or age(oldest) < kind.patience:
                return []
        return reader.read_range(position, last)

    def _settle(
        self, events: Sequence[StoredEvent], settled: Callable[[int, int, Sequence[DeadLetter]], object]
    ) -> None:
        """Deliver events; a group that is refused is split until the guilty stand alone."""
        self._attempts.clear()
        groups, impatient = deque([events] if events else []), False
        while groups:
            group = groups.popleft()
            try:
                refused = self._deliver(group, impatient).refused
                dead = [self._dead_letter(group[index], *why) for index, why in refused.items()]
                settled(group[-1].id, len(group) - len(dead), dead)
            except Refused as refusal:
                if len(group) > 1:
                    groups.extendleft(reversed(_halves(group)))
                else:
                    settled(group[0].id, 0, [self._dead_letter(group[0], refusal.code, refusal.message)])
            except _GaveUp as fault:
                impatient = True
                if len(group) > 1:
                    groups.extendleft(reversed(_halves(group)))
                elif self._passes(groups):
                    settled(group[0].id, 0, [self._dead_letter(group[0], "server_fault", str(fault))])
                else:
                    groups.appendleft(group)
                    self._wait(delay(self._attempts[group[0].id]))

    def _passes(self, groups: deque[Sequence[StoredEvent]]) -> bool:
        """Tell whether the event after one that gets a server fault is taken; it comes again, which does no harm."""
        if not groups:
            return False
        try:
            self._deliver(groups[0][:1], impatient=True)
        except Refused:
            return True
        except _GaveUp:
            return False
        return True

    def _deliver(self, events: Sequence[StoredEvent], impatient: bool) -> Settled:
        failures, since = 0, monotonic()
        while True:
            self._attempts.update(event.id for event in events)
            try:
                settled = self._kind.deliver(events)
            except Later as later:
                failures += 1
                self._failures += 1
                self._log.destinations.note_failure(self._name, str(later))
                if self._failures == 1:
                    fields = {"event": "destination_failing", "destination": self._name, "error": str(later)}
                    logger.warning("%s fails: %s", self._name, later, extra=fields)
                if later.is_server_fault and (impatient or monotonic() - since >= self._give_up_after):
                    raise _GaveUp(str(later)) from later
                if self._once and failures == TRIES_ONCE:
                    raise _Interrupted(str(later)) from later
                self._wait(delay(failures, later.retry_after))
            else:
                self._note_recovered()
                return settled

    def _note_recovered(self) -> None:
        if self._failures:
            failures, self._failures = self._failures, 0
            fields = {"event": "destination_recovered", "destination": self._name, "failures": failures}
            logger.warning("%s has recovered after %d failures", self._name, failures, extra=fields)

    def _note_unavailable(self, failure: Unavailable) -> None:
        if self._unavailable_since is None:
            self._unavailable_since = monotonic()
            fields = {"event": "storage_trouble", "destination": self._name, "reason": str(failure)}
            logger.error("the log is unavailable: %s", failure, extra=fields)

    def _note_available(self) -> None:
        if self._unavailable_since is not None:
            seconds = round(monotonic() - self._unavailable_since, 3)
            self._unavailable_since = None
            fields = {"event": "storage_recovered", "destination": self._name, "seconds": seconds}
            logger.warning("the log is available again after %s seconds", seconds, extra=fields)

    def _wait(self, seconds: float) -> None:
        """Wait, but no longer than the destination is to be delivered to."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if self._stop.wait(min(left, 1.0)):
                raise _Interrupted
            try:
                paused = self._log.destinations.get(self._name).paused
            except Unavailable:
                continue
            if paused:
                raise _Interrupted

    def _advance(self, position: int, delivered: int, dead: Sequence[DeadLetter]) -> None:
        self._log.destinations.advance(self._name, position, delivered, dead)

    def _dead_letter(self, event: StoredEvent, code: str, message: str) -> DeadLetter:
        fields = {"event": "dead_letter", "destination": self._name, "code": code, "id": event.id, "count": 1}
        logger.warning("%s refuses event %d: %s: %s", self._name, event.id, code, message, extra=fields)
        return DeadLetter(event, code, message, self._attempts[event.id], now())

    @contextmanager
    def _kind_of(self, destination: Destination) -> Iterator[Kind]:
        with self._reading, closing(self._open_kind(destination.url)) as kind:
            yield kind

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the destination's lock, which the kernel takes back from a process that dies."""
        try:
            lock = open_side_file(self._log.path, f"{self._log.path}-forward-{self._name}")
        except OSError as failure:
            raise NotPossible(explain(self._log.path, failure)) from failure
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise NotPossible(f"Another forwarder delivers to {self._name!r}") from None
        try:
            yield
        finally:
            os.close(lock)


def _is_wanted(event: StoredEvent, destination: Destination) -> bool:
    if destination.types and event.type not in destination.types:
        return False
    if destination.sources and event.source not in destination.sources:
        return False
    if '"integrations"' not in event.payload:
        return True
    integrations = json.loads(event.payload).get("integrations") or {}
    return bool(integrations.get(destination.name, integrations.get("All", True)))


def _halves(events: Sequence[StoredEvent]) -> list[Sequence[StoredEvent]]:
    middle = len(events) // 2
    return [events[:middle], events[middle:]]
