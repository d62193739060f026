"""The event log: one SQLite file that many processes append to and read in order. Knows nothing of HTTP.

log = EventLog("tracklog.db")
log.append([Event(...)])         # returns once it is on disk
log.reader.read_after(cursor)    # what was committed since, in order
"""

import os
import shutil
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from . import reserve
from .backup import back_up
from .database import Database
from .destinations import DeadLetter, Destination, Destinations
from .faults import DiskFull, NotPossible, Unavailable, Unusable
from .opening import create, migrate
from .patience import PATIENCE
from .people import People, Person
from .reader import Count, Reader, StoredEvent
from .records import Counts, Event, Rejection, import_events
from .rejections import Rejections, StoredRejection
from .retention import Pruned, Retention
from .shared_files import shared_files
from .sources import Source, Sources
from .writer import Writer

__all__ = [
    "Count",
    "DeadLetter",
    "Destination",
    "DiskFull",
    "Event",
    "EventLog",
    "NotPossible",
    "Person",
    "Pruned",
    "Rejection",
    "Source",
    "StoredEvent",
    "StoredRejection",
    "Unavailable",
    "Unusable",
    "create",
    "migrate",
]


MOST_REJECTED_BYTES = 1024 * 1024 * 1024


class Space(NamedTuple):
    """Bytes of the log's file, of its write-ahead log and its reserve (0 without one), and free on their disk."""

    log: int
    wal: int
    reserve: int
    free: int


class EventLog:
    """The log at `path`, which `create` has made. It is opened at its first use, by the process that uses it.

    Of what was refused it keeps the newest `most_rejected_bytes`.
    """

    def __init__(self, path: str, most_rejected_bytes: int = MOST_REJECTED_BYTES) -> None:
        self.path = path = os.path.realpath(path)
        self._written = Database(path)
        self._read = Database(path)  # apart, so that sources are found while a group is committed
        self._checkpointed = Database(path)  # apart, so that groups are committed while the write-ahead log is copied
        self._writer = Writer(self._written, self._checkpointed, most_rejected_bytes)
        self.reader = Reader(self._read)
        self.sources = Sources(self._read)
        self.rejections = Rejections(self._read, self._written)
        self.destinations = Destinations(self._read, self._written)
        self.retention = Retention(self._read, self._written)
        self.people = People(self._read, self._written)

    def cooperate(
        self,
        gather: Callable[[], object],
        aside: Callable[[Callable[[], object]], object],
        later: Callable[[Callable[[], object]], object],
    ) -> None:
        """Serve requests that take turns in one thread, as gevent's do, and not only threads.

        `gather` returns when every request that is ready has appended; it is called before each commit.
        `aside` calls a function that takes long in a thread of its own, and returns or raises what it has.
        `later` starts a call that takes its turns with the requests', and returns at once.
        """
        self._writer.gather = gather
        self._writer.later = later
        self._written.aside = self._checkpointed.aside = aside
        self._written.autocheckpoint = 0
        self._written.close()  # to be opened so

    def keep_reserve(self) -> None:
        """Keep room on the disk for deleting: append then raises DiskFull before the disk is full."""
        self._writer.require_room = lambda connection: reserve.require_room(connection, self._written)

    def make_room(self) -> None:
        """Give the reserve up if the disk is full; call it before the first read of a command that deletes rows."""
        reserve.make_room(self._written)

    def observe(self, committed: Callable[[float, int], object]) -> None:
        """Call `committed` after each commit, with its seconds and how many events and refusals it had.

        The seconds include waiting for other processes.
        """
        self._writer.committed = committed

    def close(self) -> None:
        """Close the file, after a checkpoint that is under way; the next use opens it again."""
        self._writer.wait_for_checkpoint()
        for database in (self._checkpointed, self._written, self._read):
            database.close()

    def close_if_moved(self) -> None:
        """Close what this process has open if the log was moved, or its -wal or -shm: others wait for that.

        Every use of the log does so, but a process may be idle. Costs three calls of stat.
        """
        shared_files(self.path).close_if_moved()

    def append(self, events: Sequence[Event], rejected: Sequence[Rejection] = ()) -> list[bool]:
        """Return once all of it is on disk, in one transaction; tell for each event whether it is new.

        Raises Unavailable where it could not be, or not within seconds: sent again, it is stored once.
        """
        return self._writer.append(events, rejected)

    def import_events(self, events: Sequence[tuple[int, Event]]) -> list[bool]:
        """Append events of another log, each with its id, which is kept where it is above all that were ever used here.

        Returns and raises as `append` does.
        """
        counts = Counts()
        with self._written.transaction(monotonic() + PATIENCE) as connection:
            are_new = import_events(connection, events, counts)
            counts.write(connection)
            self._writer.require_room(connection)
        return are_new

    def back_up(self, target: str, report: Callable[[int, int], object]) -> int:
        """Copy the log to the new file `target`, as it is now; return the id of the newest event in it.

        The copy has its name only when it is whole, checked and on disk. `report` is called with the pages that are
        copied, and all. Raises NotPossible where there is such a file, or the copy turns out broken.
        """
        return back_up(self._read, target, report)

    def prove_writable(self, least_free_bytes: int) -> None:
        """Commit a write that leaves nothing, with `least_free_bytes` left on the disk; raise Unavailable if not."""
        with self._written.transaction(monotonic() + PATIENCE) as connection:
            connection.execute("INSERT INTO counts VALUES ('', '', 'stored', '', 0, '', '')")
            connection.execute("DELETE FROM counts WHERE source = ''")
            self._writer.require_room(connection)
        free = self.space().free
        if free < least_free_bytes:
            raise Unavailable(f"{free} bytes are free on the disk, {least_free_bytes} are wanted")

    def space(self) -> Space:
        """Return what the log takes of its disk, and what is free there; raises OSError without its folder."""
        free = shutil.disk_usage(os.path.dirname(os.path.abspath(self.path))).free
        return Space(_size(self.path), _size(self.path + "-wal"), reserve.size_of(self.path), free)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
