"""The rows that an append writes: events, rejections, and the counts of both."""

import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import apsw

from .waiting import RETRY_SECONDS, T

# Rejections that one transaction deletes at most, in about 10 ms.
MAX_DROPPED_ROWS, MAX_DROPPED_BYTES = 250, 1024 * 1024
NAME_FIELDS = {"track": "event", "page": "name", "screen": "name"}  # the field in the column `name`, by type
ROWS_PER_PAUSE = 1000  # written in a few milliseconds, then other requests of the process run


class Event(NamedTuple):
    """A valid event to append. Times are ISO 8601 in UTC with milliseconds and Z."""

    source: str
    message_id: str
    type: str
    user_id: str | None
    anonymous_id: str | None
    name: str | None
    timestamp: str
    received_at: str
    payload: str  # JSON


class Rejection(NamedTuple):
    """A rejected body of a known source to append. The same bytes from the same source are kept once."""

    source: str
    received_at: str
    route: str
    code: str
    message: str
    errors: str  # JSON
    body: bytes
    cut: bool  # whether the body is only the beginning of the one that was sent


#: With the id NULL, SQLite assigns the next one.
_INSERT_EVENT = f"""
    INSERT INTO events (id, {", ".join(Event._fields)}, dedupe_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (dedupe_key) DO NOTHING
"""


class Counts:
    """Numbers of events by source, type and outcome, to add to the log's table of counts."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, str, str], tuple[int, str, str]] = {}

    def add(self, source: str, type: str, outcome: str, code: str, at: str, times: int = 1) -> None:
        key = source, type, outcome, code
        count, first, last = self._counted.get(key, (0, at, at))
        self._counted[key] = count + times, min(first, at), max(last, at)

    def add_event(self, event: Event, is_new: bool) -> None:
        self.add(event.source, event.type, "stored" if is_new else "duplicate", "", event.received_at)

    def write(self, connection: apsw.Connection) -> None:
        connection.executemany(
            """
            INSERT INTO counts (source, type, outcome, code, count, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (source, type, outcome, code) DO UPDATE SET
                count = count + excluded.count,
                first_at = min(first_at, excluded.first_at),
                last_at = max(last_at, excluded.last_at)
            """,
            [key + values for key, values in self._counted.items()],
        )


def write_events(connection: apsw.Connection, events: Sequence[Event], counts: Counts) -> list[bool]:
    """Insert events. Return for each whether it is new: its source has not used its message_id before."""
    are_new = []
    for event in _with_pauses(events):
        connection.execute(_INSERT_EVENT, (None, *event, dedupe_key(event.source, event.message_id)))
        are_new.append(connection.changes() == 1)
        counts.add_event(event, are_new[-1])
    return are_new


def import_events(connection: apsw.Connection, events: Sequence[tuple[int, Event]], counts: Counts) -> list[bool]:
    """See EventLog.import_events."""
    are_new = []
    for id, event in events:
        key = dedupe_key(event.source, event.message_id)
        # Ask first: an insert that ends in a conflict uses up an id, which one of the next events may have.
        is_new = connection.execute("SELECT 1 FROM events WHERE dedupe_key = ?", (key,)).get is None
        if is_new:
            highest = connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'").get or 0
            connection.execute(_INSERT_EVENT, (id if id > highest else None, *event, key))
        are_new.append(is_new)
        counts.add_event(event, is_new)
    return are_new


def write_rejected(connection: apsw.Connection, rejected: Sequence[Rejection], counts: Counts) -> None:
    """Insert rejections. A body that was kept before gets the latest reason, and times_seen goes up by one."""
    for body in _with_pauses(rejected):
        connection.execute(
            f"""
            INSERT INTO rejected ({", ".join(Rejection._fields)}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (source, digest) DO UPDATE SET
                route = excluded.route,
                code = excluded.code,
                message = excluded.message,
                errors = excluded.errors,
                cut = min(cut, excluded.cut),
                times_seen = times_seen + 1
            """,
            (*body, blake2b(body.body, digest_size=16).hexdigest()),
        )
        counts.add(body.source, "", "rejected", body.code, body.received_at)


def drop_oldest_rejected(connection: apsw.Connection, counts: Counts, max_bytes: int) -> int:
    """Delete the oldest rejections while the table takes more than `max_bytes`. Return the number of bytes freed.

    All appends wait for the transaction, and one large body may need the room of a million small ones. So one call
    deletes at most MAX_DROPPED_ROWS, and stops after MAX_DROPPED_BYTES.
    """
    freed, surplus = 0, int(connection.execute("SELECT bytes FROM rejected_size").get) - max_bytes
    if surplus <= 0:
        return 0
    columns = "id, size, source, code, received_at, times_seen"
    oldest = f"SELECT {columns} FROM rejected JOIN rejected_sizes USING (id) ORDER BY id LIMIT {MAX_DROPPED_ROWS}"
    rows: list[Any] = connection.execute(oldest).fetchall()
    for id, size, source, code, seen_at, times_seen in rows:
        connection.execute("DELETE FROM rejected WHERE id = ?", (id,))
        counts.add(source, "", "dropped", code, seen_at, times_seen)
        freed += size
        if freed >= min(surplus, MAX_DROPPED_BYTES):
            break
    return freed


def _with_pauses(rows: Iterable[T]) -> Iterator[T]:
    """Yield the rows, and let other requests of the process run from time to time."""
    for number, row in enumerate(rows, 1):
        yield row
        if number % ROWS_PER_PAUSE == 0:
            time.sleep(RETRY_SECONDS)


def dedupe_key(source: str, message_id: str) -> bytes:
    """Return 16 bytes that stand for the two, half of what a UUID's text takes. No source's name contains a NUL."""
    return blake2b(f"{source}\0{message_id}".encode(), digest_size=16).digest()
