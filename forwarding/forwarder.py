"""Bring one destination from where it is to the end of the log, and keep it there."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from time import monotonic
from typing import NamedTuple

from eventlog import DeadLetter, Destination, EventLog, NotPossible, StoredEvent, Unavailable
from eventlog.error_messages import explain
from eventlog.times import age

from . import lock
from .attempts import GIVE_UP_AFTER, Attempts, Interrupted
from .delivery import Kind
from .secrets import hider
from .threads import start
from .urls import carries_one_source, open_kind

POLL = 0.5  # seconds between two looks at a log of which everything is delivered

logger = logging.getLogger("tracklog.forwarding")


class Redelivered(NamedTuple):
    """What became of events that were delivered past the position: ids of those taken, and those refused for good."""

    taken: list[int]
    dead: list[DeadLetter]


class _Removed(Interrupted):
    """The destination is no more."""


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
        self._ahead: tuple[int, Future[list[StoredEvent]]] | None = None  # what is read already, after this position
        self._waiting_since: tuple[int, float] | None = None  # a position after which events wait, and since when
        self._looked = 0.0
        self._unavailable_since: float | None = None  # the log

    def run(self) -> bool:
        """Deliver until told to stop, or until the destination is paused, changed or removed; or, if it is to do so
        once, until nothing waits. Tell whether nothing does.
        """
        try:
            with self._alone(), self._opened(self._find()):
                return self._run()
        except _Removed:
            lock.discard(self._log.path, self._name)
        except Interrupted:
            pass
        return False

    def redeliver(self, events: Sequence[StoredEvent]) -> Redelivered:
        """Deliver events past the position, which stays; those that the destination does not want are left out.

        Raises NotPossible where the destination does not take them now.
        """
        taken: list[int] = []
        dead: list[DeadLetter] = []
        destination = self._log.destinations.get(self._name)
        wanted = [event for event in events if _is_wanted(event, destination)]
        with self._opened(destination):
            try:
                for first in range(0, len(wanted), self._kind.most_events):
                    group = wanted[first : first + self._kind.most_events]
                    self._attempts(self._look).settle(group, lambda _last, _delivered, refused: dead.extend(refused))
                    taken += sorted({event.id for event in group} - {letter.event.id for letter in dead})
            except Interrupted as interrupted:
                raise NotPossible(f"{self._name} does not take it now: {interrupted}") from interrupted
        return Redelivered(taken, dead)

    def _run(self) -> bool:
        attempts = self._attempts(self._go_on)
        while not self._stop.is_set():
            try:
                has_settled = self._step(attempts)
                self._note_available()
                if not has_settled:
                    if self._once:
                        return self._is_done()
                    self._stop.wait(POLL)
            except Unavailable as failure:
                self._note_unavailable(failure)
                self._stop.wait(POLL)
        return False

    def _is_done(self) -> bool:
        return self._log.reader.waiting(self._look().position, 1)[0] == 0

    def _step(self, attempts: Attempts) -> bool:
        """Settle the next events, if there are any; tell whether there were."""
        destination = self._look()
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
            self._log.destinations.reserve(destination.id, last)
        attempts.settle([event for event in events if _is_wanted(event, destination)], self._advance)
        self._advance(last, 0, ())
        self._report(last - destination.position)
        return True

    def _next(self, destination: Destination) -> list[StoredEvent]:
        if destination.reserved is not None:
            return self._log.reader.read_range(destination.position, destination.reserved)
        ahead, self._ahead = self._ahead, None
        events = ahead[1].result() if ahead and ahead[0] == destination.position else []
        events = events or self._read(destination.position)
        if events and not self._kind.patience:
            # While these are delivered, the next are read: a moment's work, and no transaction outlives it.
            self._ahead = events[-1].id, start(partial(self._read, events[-1].id))
        return events

    def _read(self, position: int) -> list[StoredEvent]:
        last, is_full, oldest = self._log.reader.measure(position, self._kind.most_events, self._kind.most_bytes)
        if oldest and self._kind.patience and not is_full and not self._once:
            # By this clock too, which never steps: the log's may have been ahead when all of them were received.
            if self._waiting_since is None or self._waiting_since[0] != position:
                self._waiting_since = position, monotonic()
            if max(age(oldest), monotonic() - self._waiting_since[1]) < self._kind.patience:
                return []
        return self._log.reader.read_range(position, last)

    def _find(self) -> Destination:
        self._looked = monotonic()
        try:
            return self._log.destinations.get(self._name)
        except NotPossible as failure:
            raise _Removed(str(failure)) from failure

    def _look(self) -> Destination:
        """Return the destination as it is now; raise Interrupted where it is not the one that was opened."""
        destination = self._find()
        if (destination.id, destination.url) != (self._opened_as.id, self._opened_as.url):
            raise Interrupted(f"{self._name} is another destination now, or has another URL")
        return destination

    def _go_on(self) -> None:
        """Raise Interrupted where nothing more is to be delivered; the log is asked every POLL seconds."""
        if self._stop.is_set():
            raise Interrupted("The forwarder is to stop")
        with suppress(Unavailable):
            if monotonic() >= self._looked + POLL and self._look().paused:
                raise Interrupted(f"{self._name} is paused")

    def _advance(self, position: int, delivered: int, dead: Sequence[DeadLetter]) -> None:
        try:
            self._log.destinations.advance(self._opened_as.id, position, delivered, dead)
        except NotPossible as failure:
            raise Interrupted(str(failure)) from failure

    def _attempts(self, go_on: Callable[[], object]) -> Attempts:
        return Attempts(
            self._name,
            self._kind,
            stop=self._stop,
            go_on=go_on,
            note_failure=partial(self._log.destinations.note_failure, self._opened_as.id),
            hide=hider(self._opened_as.url),
            once=self._once,
            give_up_after=self._give_up_after,
        )

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

    @contextmanager
    def _opened(self, destination: Destination) -> Iterator[None]:
        self._opened_as = destination
        try:
            if carries_one_source(destination.url) and len(destination.sources) != 1:
                raise NotPossible(
                    f"{self._name} carries several sources with one key, so equal messageIds of two are one there. "
                    "Remove it, and add one with a key of its own for each source: "
                    f"--source NAME --from {destination.position + 1}"
                )
            self._kind = self._open_kind(destination.url)
        except NotPossible as failure:
            self._log.destinations.note_failure(destination.id, str(failure))
            raise
        try:
            yield
        finally:
            self._kind.close()
            if self._ahead:
                wait([self._ahead[1]])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(lock.held(self._log.path, self._name))
            except BlockingIOError:
                raise NotPossible(f"Another forwarder delivers to {self._name!r}") from None
            except OSError as failure:
                raise NotPossible(explain(self._log.path, failure)) from failure
            yield


def _is_wanted(event: StoredEvent, destination: Destination) -> bool:
    if destination.types and event.type not in destination.types:
        return False
    if destination.sources and event.source not in destination.sources:
        return False
    if '"integrations"' not in event.payload:
        return True
    integrations = json.loads(event.payload).get("integrations") or {}
    return bool(integrations.get(destination.name, integrations.get("All", True)))
