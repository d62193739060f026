"""Read the log's events in commit order, and its counts."""

import json
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import NamedTuple

import apsw

from .database import Database
from .waiting import WAIT_SECONDS

STEPS_PER_REPORT = 10_000
STEPS_PER_EVENT = 40  # of SQLite's virtual machine, to check an event
STEPS_PER_PAGE = 45  # as long as the check of a page takes, which SQLite counts as one step


class StoredEvent(NamedTuple):
    """A row of the log. Ids grow in commit order, so a reader that has seen one has seen all below it."""

    id: int
    source: str
    message_id: str
    type: str
    user_id: str | None
    anonymous_id: str | None
    name: str | None
    timestamp: str
    received_at: str
    payload: str  # JSON

    def export_line(self) -> str:
        """Return the event as a line of an export, without its line break: {"id", "source", "event"}, in JSON.

        The payload is copied as it is stored, to the letter.
        """
        return f'{{"id":{self.id},"source":{json.dumps(self.source)},"event":{self.payload}}}'


class Count(NamedTuple):
    """How often an outcome happened to a source's events. A rejection has a `code` and no `type`."""

    source: str
    type: str
    outcome: str  # stored, duplicate or rejected; removed for deleted events, dropped for deleted rejections
    code: str
    times: int
    first_at: str
    last_at: str


_MATCHES = "(:type IS NULL OR type = :type) AND (:source IS NULL OR source = :source)"


def oldest_after(cursor: str) -> str:
    """Return an SQL expression for the receivedAt of about the oldest event above `cursor`, also SQL.

    After a clock has stepped back, an event can have an earlier time than those before it. So this takes the earliest
    of a few events: those 1, 2, 4, 8... ids above the cursor, and those as far from the end of the log.
    """
    return f"""(
        WITH RECURSIVE newest (id) AS (SELECT max(id) FROM events), steps (step) AS (
            VALUES (1) UNION ALL SELECT 2 * step FROM steps WHERE {cursor} + 2 * step <= (SELECT id FROM newest)
        ), looked_at (least_id) AS (
            SELECT {cursor} + step FROM steps UNION ALL SELECT max({cursor}, newest.id - step) + 1 FROM steps, newest
        )
        SELECT min((SELECT received_at FROM events WHERE id >= least_id ORDER BY id LIMIT 1)) FROM looked_at
    )"""


class Reader:
    """Reads events. Each call is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_after(
        self, cursor: int, limit: int = 1000, *, type: str | None = None, source: str | None = None
    ) -> list[StoredEvent]:
        """Return the next events with an id above `cursor`, oldest first."""
        condition = f"id > :cursor AND {_MATCHES} ORDER BY id LIMIT :limit"
        return self._select(condition, cursor=cursor, limit=limit, type=type, source=source)

    def read_last(self, limit: int, *, type: str | None = None, source: str | None = None) -> list[StoredEvent]:
        """Return the newest events, oldest first."""
        return self._select(f"{_MATCHES} ORDER BY id DESC LIMIT :limit", limit=limit, type=type, source=source)[::-1]

    def read_next(self, cursor: int, limit: int, max_bytes: int) -> list[StoredEvent]:
        """Return the next events, up to `limit` or `max_bytes` of payloads, but at least one."""
        return self.read_range(cursor, self.measure(cursor, limit, max_bytes)[0])

    def measure(self, cursor: int, limit: int, max_bytes: int) -> tuple[int, bool, str | None]:
        """Return the last id of what `read_next` returns, whether that is full, and its earliest receivedAt.

        The last id is `cursor`, and the time None, if there are no events.
        """
        rows = self._database.read(
            "SELECT id, octet_length(payload), received_at FROM events WHERE id > ? ORDER BY id LIMIT ?",
            (cursor, limit),
        )
        last, total, oldest = cursor, 0, None
        for id, size, received_at in rows:
            total += size
            if total > max_bytes and last > cursor:
                return last, True, oldest
            last, oldest = id, min(oldest or received_at, received_at)
        return last, len(rows) == limit or total >= max_bytes, oldest

    def read_range(self, cursor: int, last: int) -> list[StoredEvent]:
        """Return the events above `cursor`, up to and including `last`."""
        return self._select("id > :cursor AND id <= :last ORDER BY id", cursor=cursor, last=last)

    def last_id(self) -> int:
        """Return the newest event's id, or 0 in an empty log."""
        return int(self._database.read("SELECT coalesce(max(id), 0) FROM events")[0][0])

    def counts(self) -> list[Count]:
        """Return all counts since the log was created. It does not read the events."""
        rows = self._database.read(
            "SELECT source, type, outcome, code, count, first_at, last_at FROM counts ORDER BY 1, 2, 3, 4"
        )
        return [Count(*row) for row in rows]

    def problems(self, report: Callable[[int, int], object] = lambda done, total: None) -> list[str]:
        """Read the whole log. Return what is wrong with the file, and which counts differ from the rows.

        `report` is called with the number of steps done, and about their total.
        """
        with self._database.connection(monotonic() + WAIT_SECONDS) as connection:
            _report_steps(connection, report)
        problems = self._problems()  # an error closes the connection
        with self._database.connection(monotonic() + WAIT_SECONDS) as connection:
            connection.set_progress_handler(None)
        return problems

    def _problems(self) -> list[str]:
        problems = [str(text) for (text,) in self._database.read("PRAGMA integrity_check") if text != "ok"]
        miscounted = self._database.read(
            """
            SELECT source, type, sum(there), sum(counted) FROM (
                SELECT source, type, count(*) AS there, 0 AS counted FROM events GROUP BY source, type
                UNION ALL
                SELECT source, type, 0, iif(outcome = 'stored', count, -count) FROM counts
                WHERE outcome IN ('stored', 'removed')
            )
            GROUP BY source, type HAVING sum(there) <> sum(counted)
            """
        )
        problems += [
            f"There are {there} {type} events of {source}, but {counted} are counted"
            for source, type, there, counted in miscounted
        ]
        ((kept, counted),) = self._database.read(
            "SELECT (SELECT coalesce(sum(size), 0) FROM rejected_sizes), (SELECT bytes FROM rejected_size)"
        )
        if kept != counted:
            problems.append(f"The table rejected has {kept} bytes, but {counted} are counted")
        return problems

    def _select(self, condition: str, **bindings: str | int | None) -> list[StoredEvent]:
        rows = self._database.read(f"SELECT {', '.join(StoredEvent._fields)} FROM events WHERE {condition}", bindings)
        return [StoredEvent(*row) for row in rows]


def _report_steps(connection: apsw.Connection, report: Callable[[int, int], object]) -> None:
    """Call `report` while the connection checks the log: first all pages, then all rows."""
    pages = int(connection.pragma("page_count")) // STEPS_PER_REPORT
    events = int(connection.execute("SELECT coalesce(max(id) - min(id) + 1, 0) FROM events").get)
    total, calls = pages * STEPS_PER_PAGE + events * STEPS_PER_EVENT // STEPS_PER_REPORT, count(1)

    def report_steps() -> bool:
        call = next(calls)
        report(min(call, pages) * STEPS_PER_PAGE + max(0, call - pages), total)
        return False  # go on

    connection.set_progress_handler(report_steps, STEPS_PER_REPORT)
