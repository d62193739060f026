"""What a kind of destination does, and how it says that it could not."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from eventlog import StoredEvent


class Kind(Protocol):
    """A way to deliver, for one destination. One thread at a time uses it, but for `abort`."""

    most_events: int
    most_bytes: int  # of payloads; one event may be larger
    patience: float  # seconds for which fewer than that many may wait for more
    reserves: bool  # whether a repeat after a crash must have the very same events

    def deliver(self, events: Sequence[StoredEvent]) -> "Settled":
        """Return when every event is acknowledged or refused; raise RetryLater where the same is to be tried again.

        Events come in the log's order, and after a crash some come again: what is delivered twice must do no harm
        that the kind could prevent. Raises DeliveryRejected if the destination rejects them and does not say which.
        """

    def abort(self) -> bool:
        """Have `deliver`, which another thread is in, end soon by raising RetryLater; only `close` may follow.

        Tell whether nothing more can be sent from now on, so that the destination need not be waited for.
        """
        ...

    def close(self) -> None: ...


class Settled(NamedTuple):
    """The outcome of a delivery: which of the events were refused for good, by index, with code and message."""

    refused: Mapping[int, tuple[str, str]] = {}


class RetryLater(Exception):
    """The destination cannot take it now."""

    def __init__(self, message: str, retry_after: float | None = None, is_server_fault: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds, where the destination said so
        self.is_server_fault = is_server_fault  # it answered, with a fault that one event may be the cause of


class DeliveryRejected(Exception):
    """The destination refuses something of it for good."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AtOnce:
    """What most kinds have in common: they deliver what is there."""

    patience = 0.0
    reserves = False


class Nowhere(AtOnce):
    """Delivers to nobody, and remembers what; stands in for a destination in tests."""

    most_events = 100
    most_bytes = 1_000_000

    def __init__(self) -> None:
        self.delivered: list[StoredEvent] = []

    def deliver(self, events: Sequence[StoredEvent]) -> Settled:
        self.delivered += events
        return Settled()

    def abort(self) -> bool:
        return False

    def close(self) -> None:
        pass
