"""The event log: one SQLite file that many processes append to and read in order. Knows nothing of HTTP.

log = EventLog("tracklog.db")
log.append([Event(...)])         # returns once it is on disk
log.reader.read_after(cursor)    # what was committed since, in order
"""

from collections.abc import Callable, Sequence

from .database import Database
from .opening import Unavailable, Unusable, create, migrate
from .reader import Count, Reader, StoredEvent
from .records import Event, Rejected
from .sources import NotPossible, Source, Sources
from .writer import Writer

__all__ = [
    "Count",
    "Event",
    "EventLog",
    "NotPossible",
    "Rejected",
    "Source",
    "StoredEvent",
    "Unavailable",
    "Unusable",
    "create",
    "migrate",
]


class EventLog:
    """The log at `path`, which `create` has made. It is opened at its first use, by the process that uses it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._written = Database(path)
        self._read = Database(path)  # apart, so that sources are found while a group is committed
        self._writer = Writer(self._written)
        self.reader = Reader(self._read)
        self.sources = Sources(self._read)

    def cooperate(self, gather: Callable[[], object], aside: Callable[[Callable[[], object]], object]) -> None:
        """Serve requests that take turns in one thread, as gevent's do, and not only threads.

        `gather` returns when every request that is ready has appended; it is called before each commit.
        `aside` calls a function that takes long in a thread of its own, and returns when it has returned.
        """
        self._writer.gather = gather
        self._written.aside = aside

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._written.close()
        self._read.close()

    def append(self, events: Sequence[Event], rejected: Sequence[Rejected] = ()) -> list[bool]:
        """Return once all of it is on disk, in one transaction; tell for each event whether it is new.

        Raises Unavailable where it could not be, or not within seconds: sent again, it is stored once.
        """
        return self._writer.append(events, rejected)
