"""Add dead letters to the table, or take them back, within a transaction."""

from collections.abc import Sequence
from typing import NamedTuple

import apsw

from .reader import StoredEvent
from .times import now

MAX_REFUSALS = 20  # in a row, with no event taken in between; then the destination is `refusing`
TRANSFORM_FAILED = "transform_failed"  # the code of an event that never reached the destination: no refusal
MAX_DEAD_LETTERS = 10_000  # of a destination; the oldest are deleted


class DeadLetter(NamedTuple):
    """An event that a destination rejected, and why."""

    event: StoredEvent
    code: str
    message: str
    attempts: int
    died_at: str


EVENT_COLUMNS = ", ".join("event_id" if column == "id" else column for column in StoredEvent._fields)

_INSERT = f"""
    INSERT INTO dead_letters (destination, {EVENT_COLUMNS}, code, message, attempts, died_at)
    SELECT {", ".join("?" * (len(StoredEvent._fields) + 5))}
    WHERE EXISTS (SELECT 1 FROM events WHERE id = ?)
    ON CONFLICT (destination, event_id) DO UPDATE SET
        code = excluded.code,
        message = excluded.message,
        attempts = attempts + excluded.attempts,
        died_at = excluded.died_at
"""

_DELETE_SURPLUS = f"""
    DELETE FROM dead_letters WHERE destination = :name AND event_id <= (
        SELECT event_id FROM dead_letters WHERE destination = :name
        ORDER BY event_id DESC LIMIT 1 OFFSET {MAX_DEAD_LETTERS}
    )
"""


def add_dead_letters(connection: apsw.Connection, name: str, dead: Sequence[DeadLetter]) -> None:
    """Add dead letters of a destination. An event that was deleted from the log in the meantime leaves none."""
    if dead:
        connection.executemany(_INSERT, [(name, *letter.event, *letter[1:], letter.event.id) for letter in dead])
        connection.execute(_DELETE_SURPLUS, {"name": name})


def take_back(connection: apsw.Connection, id: int, name: str, refused_from: int, last: DeadLetter) -> str | None:
    """Unless a destination has refused fewer than MAX_REFUSALS events after a position, move back to that.

    Return the error, or None if they are fewer. An event that was pruned in the meantime stays a dead letter.
    """
    since = "destination = ? AND event_id > ?"
    count = f"SELECT count(*) FROM dead_letters WHERE {since} AND code <> '{TRANSFORM_FAILED}'"
    if connection.execute(count, (name, refused_from)).get < MAX_REFUSALS:
        return None
    connection.execute(
        f"DELETE FROM dead_letters WHERE {since} AND EXISTS (SELECT 1 FROM events WHERE id = event_id)",
        (name, refused_from),
    )
    error = f"{MAX_REFUSALS} events in a row were refused, the last with {last.code}: {last.message}"
    connection.execute(
        "UPDATE destinations SET position = refused_from, last_error = ?, last_error_at = ? WHERE id = ?",
        (error, now(), id),
    )
    return error
