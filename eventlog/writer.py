"""Append events to the log, many requests per disk sync."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

import apsw

from .database import PATIENCE, Database
from .opening import ROW_FAULTS, Unavailable
from .records import Counts, Event, Rejected, write_events, write_rejected

GROUP_EVENTS = 1000  # a group takes no further request once it holds as many


class Writer:
    """Commits in one transaction whatever the requests of this process have ready.

    No thread of its own does it: one of the requests that wait leads, commits for all of them, and
    hands the lead to the first of those that came meanwhile.
    """

    def __init__(self, database: Database) -> None:
        #: Returns when every request that is ready has appended. Under gevent that is when the loop
        #: is idle; threads have no such moment, and gather while the group before is committed.
        self.gather: Callable[[], object] = lambda: None
        self._database = database
        self._waiting: deque[_Append] = deque()
        self._lead = threading.Lock()

    def append(self, events: Sequence[Event], rejected: Sequence[Rejected] = ()) -> list[bool]:
        """Return once all of it is on disk; tell for each event whether it is new.

        Raises Unavailable where it could not be, or not in time: sent again, it is stored once.
        """
        deadline = monotonic() + PATIENCE
        append = _Append(events, rejected)
        self._waiting.append(append)
        try:
            if self._lead.acquire(blocking=False):
                append.leads = True
            else:
                append.woken.acquire()  # soon: whoever leads is done before its deadline, and hands on
            while not append.is_done:
                self.gather()
                self._commit_group(deadline)
        finally:
            if not append.is_done:
                self._waiting.remove(append)
            if append.leads:
                self._hand_on()
        if append.failure:
            raise append.failure
        return append.are_new

    def _hand_on(self) -> None:
        self._lead.release()
        # Whoever came before the release waits, and whoever comes after it leads.
        if self._waiting and self._lead.acquire(blocking=False):
            successor = self._waiting[0]
            successor.leads = True
            successor.woken.release()

    def _commit_group(self, deadline: float) -> None:
        group: list[_Append] = []
        counts = Counts()
        try:
            with self._database.transaction(deadline) as connection:
                # Taken only now: what became ready while other processes wrote comes along.
                group = self._take_group()
                for append in group:
                    append.write(connection, counts)
                counts.write(connection)
            for append in group:
                append.failure = append.fault
        except Exception as failure:
            if not group:
                raise
            for append in group:
                append.failure = failure
        finally:
            for append in group:
                append.is_done = True
                append.woken.release()

    def _take_group(self) -> "list[_Append]":
        group, size = [], 0
        while self._waiting and size < GROUP_EVENTS:
            append = self._waiting.popleft()
            group.append(append)
            size += len(append.events) + len(append.rejected)
        return group


class _Append:
    """One request's part of a group: stored as a whole or not at all."""

    def __init__(self, events: Sequence[Event], rejected: Sequence[Rejected]) -> None:
        self.events = events
        self.rejected = rejected
        self.are_new: list[bool] = []
        self.is_done = False
        self.leads = False
        self.woken = threading.Lock()  # released when it is done or has to lead
        self.woken.acquire()
        self.fault: Exception | None = None  # its own, which spares its neighbours in the group
        self.failure: Exception | None = Unavailable("the commit was interrupted")

    def write(self, connection: apsw.Connection, counts: Counts) -> None:
        try:
            with connection:  # a savepoint
                self.are_new = write_events(connection, self.events)
                write_rejected(connection, self.rejected)
        except (*ROW_FAULTS, TypeError, ValueError) as fault:
            self.fault = fault
        else:
            counts.add_events(self.events, self.are_new)
            counts.add_rejected(self.rejected)
