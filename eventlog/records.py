"""What a log keeps: events, rejected bodies, and the counts of both; each with the statement that writes it."""

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import apsw

from .patience import NAP

DROP_ROWS, DROP_BYTES = 250, 1024 * 1024  # refused bodies that one transaction deletes, within some 10 ms
SLICE = 1000  # rows, which take some milliseconds: after as many, the other requests of the process get a turn


class Event(NamedTuple):
    """A checked event on its way into the log; times are ISO 8601 in UTC, to the millisecond, ending in Z."""

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
    """A refused body of a known source; the same bytes from the same source are kept once."""

    source: str
    received_at: str
    route: str
    code: str
    message: str
    errors: str  # JSON
    body: bytes
    cut: bool  # whether the body is only the beginning of what was sent


class Counts:
    """What has been stored, found stored already, and rejected."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, str, str], tuple[int, str, str]] = {}

    def add(self, source: str, type: str, outcome: str, code: str, at: str, times: int = 1) -> None:
        key = source, type, outcome, code
        count, first, last = self._counted.get(key, (0, at, at))
        self._counted[key] = count + times, min(first, at), max(last, at)

    def write(self, connection: apsw.Connection) -> None:
        for key, values in self._counted.items():
            connection.execute(
                """
                INSERT INTO counts (source, type, outcome, code, count, first_at, last_at)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (source, type, outcome, code) DO UPDATE SET
                    count = count + excluded.count,
                    first_at = min(first_at, excluded.first_at),
                    last_at = max(last_at, excluded.last_at)
                """,
                key + values,
            )


def write_events(connection: apsw.Connection, events: Sequence[Event], counts: Counts) -> list[bool]:
    """Insert events, and tell for each whether it is new: one whose message_id its source has used before is not."""
    are_new = []
    for number, event in enumerate(events, 1):
        connection.execute(
            """
            INSERT INTO events (source, message_id, type, user_id, anonymous_id, name,
                                timestamp, received_at, payload, dedupe_key)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (dedupe_key) DO NOTHING
            """,
            (*event, dedupe_key(event.source, event.message_id)),
        )
        is_new = connection.changes() == 1
        are_new.append(is_new)
        counts.add(event.source, event.type, "stored" if is_new else "duplicate", "", event.received_at)
        if number % SLICE == 0:
            time.sleep(NAP)
    return are_new


def import_events(connection: apsw.Connection, events: Sequence[tuple[int, Event]], counts: Counts) -> list[bool]:
    """Do the same for events that have an id already, from another log.

    It is kept where it is above all that this log has ever used, since readers ask for what is above their position;
    else the event gets the next.
    """
    are_new = []
    for id, event in events:
        key = dedupe_key(event.source, event.message_id)
        # Asked first: an insert that ends in a conflict has used up an id, which may be one of the next events'.
        is_new = connection.execute("SELECT 1 FROM events WHERE dedupe_key = ?", (key,)).get is None
        if is_new:
            connection.execute(
                """
                INSERT INTO events (id, source, message_id, type, user_id, anonymous_id, name,
                                    timestamp, received_at, payload, dedupe_key)
                VALUES (
                    iif(?1 > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'), ?1, NULL),
                    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
                )
                """,
                (id, *event, key),
            )
        are_new.append(is_new)
        counts.add(event.source, event.type, "stored" if is_new else "duplicate", "", event.received_at)
    return are_new


def write_rejected(connection: apsw.Connection, rejected: Sequence[Rejection], counts: Counts) -> None:
    """Keep refused bodies. One that was kept before gets the latest reason, and is counted as seen once more."""
    for number, body in enumerate(rejected, 1):
        connection.execute(
            """
            INSERT INTO rejected (source, received_at, route, code, message, errors, body, cut, digest)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (source, digest) DO UPDATE SET
                route = excluded.route,
                code = excluded.code,
                message = excluded.message,
                errors = excluded.errors,
                times_seen = times_seen + 1
            """,
            (*body, blake2b(body.body, digest_size=16).hexdigest()),
        )
        counts.add(body.source, "", "rejected", body.code, body.received_at)
        if number % SLICE == 0:
            time.sleep(NAP)


def drop_oldest_rejected(connection: apsw.Connection, counts: Counts, max_bytes: int) -> int:
    """Delete the oldest refused bodies while they take more than `max_bytes`; return the bytes that were freed.

    All appends wait for the transaction, and one large body may need the room of a million small ones. So it deletes
    at most DROP_ROWS, and stops after DROP_BYTES.
    """
    freed, surplus = 0, int(connection.execute("SELECT bytes FROM rejected_size").get) - max_bytes
    if surplus <= 0:
        return 0
    columns = "id, size, source, code, received_at, times_seen"
    oldest = f"SELECT {columns} FROM rejected JOIN rejected_sizes USING (id) ORDER BY id LIMIT {DROP_ROWS}"
    rows: list[Any] = connection.execute(oldest).fetchall()
    for id, size, source, code, seen_at, times_seen in rows:
        connection.execute("DELETE FROM rejected WHERE id = ?", (id,))
        counts.add(source, "", "dropped", code, seen_at, times_seen)
        freed += size
        if freed >= min(surplus, DROP_BYTES):
            break
    return freed


def dedupe_key(source: str, message_id: str) -> bytes:
    """Stand for both in 16 bytes, half of a UUID's text in the index. No source's name holds a NUL."""
    return blake2b(f"{source}\0{message_id}".encode(), digest_size=16).digest()
