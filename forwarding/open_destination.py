"""Open a destination for delivery, and follow its row in the log."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import monotonic

from eventlog import DeadLetter, Destination, EventLog, NotPossible, StoredEvent, Unavailable

from .delivery import Deliverer
from .event_rules import EventRules
from .preparing import open_prepared
from .secrets import make_redactor
from .urls import carries_one_source, find_kind, open_deliverer

CHECK_SECONDS = 0.5  # between two reads of the row while events are delivered

logger = logging.getLogger("tracklog.forwarding")


class Interrupted(Exception):
    """Raised if delivery must end now: the forwarder stops, or the destination was paused or changed."""


class Removed(Interrupted):
    """Raised if the destination was removed."""


class Refusing(Exception):
    """Raised if the destination has refused so many events in a row that the log has moved its position back."""


@contextmanager
def _raise_if_removed() -> Iterator[None]:
    try:
        yield
    except NotPossible as failure:
        raise Removed(str(failure)) from failure


def find(log: EventLog, name: str) -> Destination:
    """Return a destination's row. Raises Removed if there is none."""
    with _raise_if_removed():
        return log.destinations.get(name)


class OpenDestination:
    """A destination while events are delivered to it.

    It stays bound to the row, URL, headers and rules that were opened. If the row was deleted, `reload`, `advance` and
    `note_batch_end` raise Removed. If one has changed, `reload` raises Interrupted. All raise Unavailable.
    """

    def __init__(self, log: EventLog, row: Destination, deliverer: Deliverer, stop: threading.Event) -> None:
        self.name = row.name
        self.deliverer = deliverer
        self.redact = make_redactor(row.url, row.headers)  # strips their secrets from a text
        self.stop = stop
        self._log = log
        self._row = row
        self._rules = EventRules.from_json(row.event_rules)
        self._read_at = monotonic()
        self._failures = 0  # in a row

    @property
    def resumed_at(self) -> str | None:
        """When an operator last resumed the destination, as of the last `reload`."""
        return self._row.resumed_at

    def reload(self) -> Destination:
        """Return the row as it is now."""
        self._read_at = monotonic()
        row = find(self._log, self.name)
        if _bound(row) != _bound(self._row):
            raise Interrupted(f"{self.name} is now another destination, or has another URL, other headers or rules")
        self._row = row
        return row

    def wants(self, event: StoredEvent) -> bool:
        """Return True if the destination's filters, and the event's `integrations`, allow a delivery."""
        if self._row.types and event.type not in self._row.types:
            return False
        if self._row.sources and event.source not in self._row.sources:
            return False
        if not self._rules.wants(event):
            return False
        if '"integrations"' not in event.payload:
            return True
        integrations = json.loads(event.payload).get("integrations") or {}
        return bool(integrations.get(self.name, integrations.get("All", True)))

    def check(self) -> None:
        """Raise Interrupted if delivery must end. Cheap: reads the row only every CHECK_SECONDS."""
        if self.stop.is_set():
            raise Interrupted("The forwarder is stopping")
        with suppress(Unavailable):
            if monotonic() >= self._read_at + CHECK_SECONDS and self.reload().paused:
                raise Interrupted(f"{self.name} is paused")

    def note_batch_end(self, last: int) -> None:
        """Store the last id of the next batch, so that a repeat after a crash has the same events."""
        with _raise_if_removed():
            self._log.destinations.note_batch_end(self._row.id, last)

    def advance(self, position: int, delivered: int = 0, dead: Sequence[DeadLetter] = ()) -> None:
        """Store that every event up to `position` was delivered, skipped, or became a dead letter.

        Raises Refusing if there were too many dead letters in a row. They are no longer dead letters then.
        """
        with _raise_if_removed():
            error = self._log.destinations.advance(self._row.id, position, delivered, dead)
        if error:
            self._failures += 1
            fields = {"event": "destination_refusing", "destination": self.name, "error": error}
            logger.error("%s is refusing: %s", self.name, error, extra=fields)
            raise Refusing(error)
        self.note_success()

    def note_failure(self, error: str) -> None:
        """Store a failed attempt and its error. Log the first one in a row."""
        self._log.destinations.note_failure(self._row.id, error)
        self._failures += 1
        if self._failures == 1:
            fields = {"event": "destination_failing", "destination": self.name, "error": error}
            logger.warning("delivery to %s fails: %s", self.name, error, extra=fields)

    def forget_failures(self) -> None:
        """Store that the destination works, or has nothing to get. Does nothing if no failure is stored."""
        self.note_success()
        if self._row.last_error:
            with _raise_if_removed():
                self._log.destinations.forget_failures(self._row.id)

    def note_success(self) -> None:
        """Log the end of a row of failures."""
        if self._failures:
            failures, self._failures = self._failures, 0
            fields = {"event": "destination_recovered", "destination": self.name, "failures": failures}
            logger.warning("delivery to %s works again after %d failures", self.name, failures, extra=fields)


def _bound(row: Destination) -> tuple[object, ...]:
    """Return what an open destination cannot change."""
    return row.id, row.url, row.headers, row.event_rules


@contextmanager
def opened(
    log: EventLog,
    row: Destination,
    stop: threading.Event,
    open_deliverer: Callable[[str, Mapping[str, str]], Deliverer] = open_deliverer,
) -> Iterator[OpenDestination]:
    """Open a destination, and close its deliverer at the end.

    Raises NotPossible, and stores it as the destination's last error, if its URL, headers, sources or rules are not
    valid.
    """
    try:
        rules = EventRules.from_json(row.event_rules)
        rules.check(find_kind(row.url))
        if carries_one_source(row.url) and len(row.sources) != 1:
            raise NotPossible(
                f"{row.name} carries several sources with one key, and so mixes up events with the same messageId. "
                "Remove it, and add one destination for each source, each with its own key: "
                f"--source NAME --from {row.position + 1}"
            )
        deliverer = open_prepared(rules, lambda: open_deliverer(row.url, row.headers))
    except NotPossible as failure:
        log.destinations.note_failure(row.id, str(failure))
        raise
    try:
        yield OpenDestination(log, row, deliverer, stop)
    finally:
        deliverer.close()
