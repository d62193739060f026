"""Read the log in the order in which it was written."""

from typing import NamedTuple

from .database import Database


class StoredEvent(NamedTuple):
    """A row of the log; ids grow in commit order, so a reader that has seen one has seen all below it."""

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


class Count(NamedTuple):
    """How often something happened to a source's events: `code` is '' unless they were rejected, else `type` is."""

    source: str
    type: str
    outcome: str  # stored, duplicate or rejected; and what has gone again: removed events, dropped rejected bodies
    code: str
    times: int
    first_at: str
    last_at: str


_COLUMNS = ", ".join(StoredEvent._fields)


def oldest_after(cursor: str) -> str:
    """Return an SQL expression: about when the oldest event above `cursor`, an expression too, was received.

    A clock that stepped back leaves events that seem to be received later than those behind them. So this takes the
    earliest of a few: those at 1, 2, 4, 8... ids above the cursor, and at as many before the end of the log.
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
    """Reads without holding anything open in between: each call is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_after(
        self, cursor: int, limit: int = 1000, *, type: str | None = None, source: str | None = None
    ) -> list[StoredEvent]:
        """Return the next events with an id above `cursor`, oldest first."""
        rows = self._database.read(
            f"""
            SELECT {_COLUMNS} FROM events
            WHERE id > :cursor AND (:type IS NULL OR type = :type) AND (:source IS NULL OR source = :source)
            ORDER BY id LIMIT :limit
            """,
            {"cursor": cursor, "limit": limit, "type": type, "source": source},
        )
        return [StoredEvent(*row) for row in rows]

    def read_last(self, limit: int, *, type: str | None = None, source: str | None = None) -> list[StoredEvent]:
        """Return the newest events, oldest first."""
        rows = self._database.read(
            f"""
            SELECT {_COLUMNS} FROM events
            WHERE (:type IS NULL OR type = :type) AND (:source IS NULL OR source = :source)
            ORDER BY id DESC LIMIT :limit
            """,
            {"limit": limit, "type": type, "source": source},
        )
        return [StoredEvent(*row) for row in reversed(rows)]

    def read_next(self, cursor: int, limit: int, most_bytes: int) -> list[StoredEvent]:
        """Return the next events above `cursor`: those with payloads of `most_bytes` together, but at least one."""
        return self.read_range(cursor, self.measure(cursor, limit, most_bytes)[0])

    def measure(self, cursor: int, limit: int, most_bytes: int) -> tuple[int, bool, str | None]:
        """Return the last id of what `read_next` would return, and whether it is full: one more were too many.

        Return also when the oldest of it was received.
        """
        rows = self._database.read(
            "SELECT id, octet_length(payload), received_at FROM events WHERE id > ? ORDER BY id LIMIT ?",
            (cursor, limit),
        )
        last, total, oldest = cursor, 0, None
        for id, size, received_at in rows:
            total += size
            if total > most_bytes and last > cursor:
                return last, True, oldest
            last, oldest = id, min(oldest or received_at, received_at)
        return last, len(rows) == limit or total >= most_bytes, oldest

    def read_range(self, cursor: int, last: int) -> list[StoredEvent]:
        """Return the events above `cursor` up to `last`."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE id > ? AND id <= ? ORDER BY id", (cursor, last)
        )
        return [StoredEvent(*row) for row in rows]

    def last_id(self) -> int:
        """Return the newest event's id, or 0 in an empty log."""
        return int(self._database.read("SELECT coalesce(max(id), 0) FROM events")[0][0])

    def counts(self) -> list[Count]:
        """Return what has happened since the log was made, without a look at the events."""
        rows = self._database.read(
            """
            SELECT source, type, outcome, code, count, first_at, last_at FROM counts
            ORDER BY source, type, outcome, code
            """
        )
        return [Count(*row) for row in rows]

    def problems(self) -> list[str]:
        """Read the whole log, and return what is wrong with the file, or where counts are not those of rows."""
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
            f"There are {there} events {type} of {source}, and {counted} are counted"
            for source, type, there, counted in miscounted
        ]
        ((kept, counted),) = self._database.read(
            "SELECT (SELECT coalesce(sum(size), 0) FROM rejected_sizes), (SELECT bytes FROM rejected_size)"
        )
        if kept != counted:
            problems.append(f"The table rejected has {kept} bytes, and {counted} are counted")
        return problems
