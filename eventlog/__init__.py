"""The event log: one SQLite file that many processes append to and read in order.

log = EventLog("tracklog.db")
log.append([Event(...)])         # returns once the event is on disk
log.reader.read_after(cursor)    # the events committed since, in order
"""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import reserve
from .backup import back_up, backup_age
from .checkpoint import Checkpointer
from .database import Database
from .dead_letters import DeadLetter
from .destinations import Destination, Destinations
from .errors import Damaged, DiskFull, Missing, NotPossible, Unavailable, Unusable
from .mentions import Trait
from .people import People, Person
from .reader import Count, Reader, StoredEvent
from .records import NAME_FIELDS, Counts, Event, Rejection, import_events
from .rejections import Rejections, StoredRejection
from .retention import Pruned, Retention
from .runtime import Runtime
from .schema import create, migrate
from .shared_files import shared_files
from .side_files import size_of
from .sources import Source, Sources
from .writer import Writer


class Space(NamedTuple):
    """Bytes of the log's files, and free bytes on their disk. The reserve is 0 if there is none."""

    log: int
    wal: int
    reserve: int
    free: int


class EventLog:
    """The log at `path`, which `create` has made. It is opened at its first use, by the process that uses it.

    It keeps at most `max_rejected_bytes` of rejections, and deletes the oldest above that.
    """

    def __init__(self, path: str, max_rejected_bytes: int = 1024 * 1024 * 1024) -> None:
        self.path = path = os.path.realpath(path)
        self._written = Database(path)
        self._read = Database(path)  # a second connection, to find sources while a group is committed
        self._checkpointed = Database(path)  # a third, to copy the WAL while groups are committed
        self._checkpointer = Checkpointer(self._checkpointed)
        self._writer = Writer(self._written, self._checkpointer, max_rejected_bytes)
        self.reader = Reader(self._read)
        self.sources = Sources(self._read)
        self.rejections = Rejections(self._read, self._written)
        self.destinations = Destinations(self._read, self._written)
        self.retention = Retention(self._read, self._written)
        self.people = People(self._read, self._written)

    def run_on(self, runtime: Runtime) -> None:
        """Wait and run blocking calls with `runtime` instead of that for threads. Call it before the log is used."""
        for database in (self._written, self._checkpointed):
            database.runtime = runtime
            database.close()  # so that it is opened for that runtime

    def keep_reserve(self) -> None:
        """Reserve room on the disk for deleting rows. Then `append` raises DiskFull before the disk is full."""
        self._writer.require_room = lambda connection: reserve.require_room(connection, self._written)

    def make_room(self) -> None:
        """Delete the reserve if the disk is full. Call it before the first read of a command that deletes rows."""
        reserve.make_room(self._written)

    def observe(self, on_commit: Callable[[float, int], object]) -> None:
        """Call `on_commit` after each commit with its seconds and its number of events and rejections.

        The seconds include waiting for other processes.
        """
        self._writer.on_commit = on_commit

    @property
    def gathered_rows(self) -> int:
        """Return how many events and rejections wait for a commit that others can still join."""
        return self._writer.gathered_rows

    def close(self) -> None:
        """Close the file, after a checkpoint that is running has ended. The next use opens it again."""
        self._checkpointer.wait()
        for database in (self._checkpointed, self._written, self._read):
            database.close()

    def close_if_moved(self) -> None:
        """Close this process's connections if the log, its -wal or its -shm was moved. Other processes wait for that.

        Every use of the log does this too, so only an idle process needs to call it. It costs three calls of stat.
        """
        shared_files(self.path).close_if_moved()

    def append(self, events: Sequence[Event], rejected: Sequence[Rejection] = ()) -> list[bool]:
        """Store events and rejections in one transaction. Return, once it is on disk, whether each event is new.

        Raises Unavailable if that fails, or takes longer than a few seconds. The events may be stored even so. To
        append them again is safe, since each is stored once. Raises apsw's or Python's error for a row that cannot be
        stored at all.
        """
        return self._writer.append(events, rejected)

    def import_events(self, events: Sequence[tuple[int, Event]]) -> list[bool]:
        """Append events of another log, each with its id there. Return whether each is new; raise as `append` does.

        An event keeps its id if that is above all ids that this log has ever used, since readers ask for events above
        their cursor. Otherwise it gets the next id.
        """
        counts = Counts()
        with self._written.transaction() as connection:
            are_new = import_events(connection, events, counts)
            counts.write(connection)
            self._writer.require_room(connection)
        return are_new

    def back_up(self, target: str, report: Callable[[int, int], object]) -> int:
        """Copy the log as it is now to the new file `target`. Return the id of the newest event in the copy.

        The copy gets its name once it is complete, checked and on disk. `report` is called with the number of pages
        copied so far and the number of all. Raises NotPossible if the file exists or the copy is broken.
        """
        return back_up(self._read, target, report)

    def backup_age(self) -> float:
        """Return how many seconds ago a process last backed the log up, or infinity."""
        return backup_age(self.path)

    def prove_writable(self, min_free_bytes: int) -> None:
        """Commit a write that changes nothing. Raise Unavailable if it fails or the disk has too few free bytes."""
        with self._written.transaction() as connection:
            connection.execute("INSERT INTO counts VALUES ('', '', 'stored', '', 0, '', '')")
            connection.execute("DELETE FROM counts WHERE source = ''")
            self._writer.require_room(connection)
        free = self.space().free
        if free < min_free_bytes:
            raise Unavailable(f"{free} bytes are free on the disk, {min_free_bytes} are wanted")

    def space(self) -> Space:
        """Return what the log takes of its disk, and what is free there. Raise OSError if its folder is missing."""
        free = shutil.disk_usage(os.path.dirname(os.path.abspath(self.path))).free
        return Space(size_of(self.path), size_of(self.path + "-wal"), size_of(self.path + "-reserve"), free)
