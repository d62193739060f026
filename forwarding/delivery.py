"""Define what delivers to a destination, and how it reports the outcome."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from eventlog import StoredEvent


class Deliverer(Protocol):
    """Delivers batches of events to one destination. Each kind of destination has one.

    Order: batches come in the order of the log, and so do the events of a batch. A replay may deliver older events.
    Idempotence: a batch may come again, whole or in part: after RetryLater, after a crash, or split in halves. Mark
    each event so that the destination can recognize a repeat, if its protocol allows that.
    Threads: one thread at a time calls `deliver`, not always the same one. Another may call `abort` meanwhile.
    Errors: `deliver` raises RetryLater or DeliveryRejected. Any other exception is logged as a fault of the
    forwarder, which reopens the destination after 10 seconds.
    """

    max_events: int  # of a batch
    max_bytes: int  # of a batch's payloads; a single event may be larger
    max_wait_seconds: float = 0.0  # how long a batch that is not full waits for more events
    needs_same_batches: bool = False  # a repeat after a crash must have exactly the same events
    last_answer: str = ""  # what came back from the destination, if its protocol has answers

    def deliver(self, events: Sequence[StoredEvent]) -> "Outcome":
        """Return when the destination has acknowledged or rejected every event.

        Raises RetryLater if the same batch is to be tried again, and DeliveryRejected if the destination rejects the
        batch without saying which events are at fault.
        """

    def create(self) -> None:
        """Create the tables that `deliver` needs, if any is missing. Raises as `deliver` does."""
        raise DeliveryRejected("no_tables", "This kind of destination has no tables to create")

    def abort(self) -> bool:
        """Make a running `deliver` raise RetryLater soon. Call only `close` after it.

        Return True if nothing can be sent from now on, so that the caller need not wait for `deliver` to end.
        """
        ...

    def close(self) -> None:
        """Release connections and threads."""


class Outcome(NamedTuple):
    """Which events of a batch were rejected, as code and message by index. The others were acknowledged or dropped."""

    rejected: Mapping[int, tuple[str, str]] = {}
    dropped: int = 0  # by the destination's transform
    is_answer: bool = True  # of the destination; False if a transform left nothing to send


class RetryLater(Exception):
    """Raised if the destination cannot take a batch now."""

    def __init__(self, message: str, retry_after: float | None = None, is_server_fault: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds, if the destination gave them
        self.is_server_fault = is_server_fault  # the answer was a 5xx, which a single event may cause


class DeliveryRejected(Exception):
    """Raised if the destination rejects some event of a batch, and not because of its own state or settings."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
