"""The tables of destinations, with the cursor of each, and of dead letters."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from .database import Tables
from .errors import NotPossible
from .reader import StoredEvent, oldest_after
from .times import now


class Destination(NamedTuple):
    """A row of the table. migrations/0005_destination_ids.sql says what the columns mean."""

    id: int
    name: str
    url: str
    types: tuple[str, ...]
    sources: tuple[str, ...]
    paused: bool
    position: int
    reserved: int | None
    delivered: int
    failures: int
    last_success_at: str | None
    last_error: str | None
    last_error_at: str | None
    created_at: str
    event_rules: str  # JSON; 0008_event_rules.sql says what it means


class Progress(NamedTuple):
    """How far a destination has got."""

    name: str
    waiting: int  # events after its position, including those that it does not want
    oldest: str | None  # about when the oldest of them was received
    delivered: int
    failures: int
    dead: int  # dead letters


class DeadLetter(NamedTuple):
    """An event that a destination rejected, and why."""

    event: StoredEvent
    code: str
    message: str
    attempts: int
    died_at: str


_EVENT_COLUMNS = ", ".join("event_id" if column == "id" else column for column in StoredEvent._fields)


class Destinations(Tables):
    """The log's tables of destinations and dead letters.

    An operator uses a destination's name. A forwarder uses its id, so that it never changes another destination that
    was added under the same name. Methods raise NotPossible if there is no such destination.
    """

    def all(self) -> list[Destination]:
        """Return all destinations by name."""
        return self._select("")

    def progress(self) -> list[Progress]:
        """Return how far each destination has got, ordered by name. The cost does not depend on the backlog."""
        rows = self._read.read(
            f"""
            SELECT
                name,
                coalesce((SELECT max(id) FROM events) - (SELECT min(id) FROM events WHERE id > position) + 1, 0),
                {oldest_after("position")},
                delivered,
                failures,
                (SELECT count(*) FROM dead_letters WHERE destination = destinations.name)
            FROM destinations
            ORDER BY name
            """
        )
        return [Progress(*row) for row in rows]

    def get(self, name: str) -> Destination:
        """Return the destination with this name."""
        for destination in self._select("WHERE name = ?", name):
            return destination
        raise _no_destination(name)

    def add(
        self,
        name: str,
        url: str,
        types: Sequence[str],
        sources: Sequence[str],
        position: int,
        event_rules: str = "{}",
    ) -> None:
        """Add a destination that starts after `position`, an event's id. Raise NotPossible if the name is taken."""
        with self._written.transaction() as connection:
            connection.execute(
                """
                INSERT INTO destinations (name, url, types, sources, position, created_at, event_rules)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO NOTHING
                """,
                (name, url, json.dumps(types), json.dumps(sources), position, now(), event_rules),
            )
            if not connection.changes():
                raise NotPossible(f"There is a destination {name!r} already")

    def remove(self, name: str) -> None:
        """Delete a destination and its dead letters."""
        with self._written.transaction() as connection:
            connection.execute("DELETE FROM destinations WHERE name = ?", (name,))
            if not connection.changes():
                raise _no_destination(name)
            connection.execute("DELETE FROM dead_letters WHERE destination = ?", (name,))

    def pause(self, name: str, paused: bool) -> None:
        """Stop or resume deliveries."""
        self._update("paused = :paused", name=name, paused=paused)

    def set_url(self, name: str, url: str, event_rules: str = "{}") -> None:
        """Deliver to another URL by these rules from now on, and clear the last error."""
        changes = "url = :url, event_rules = :event_rules, last_error = NULL"
        self._update(changes, name=name, url=url, event_rules=event_rules)

    def reserve(self, id: int, last: int) -> None:
        """Note where the next object ends, before it is written. A retry then writes the same object."""
        self._update("reserved = :last", id=id, last=last)

    def advance(self, id: int, position: int, delivered: int, dead: Sequence[DeadLetter] = ()) -> None:
        """Move the position: all events up to it are delivered, skipped or dead. Idempotent except for the counts.

        An event that was deleted from the log in the meantime leaves no dead letter.
        """
        with self._written.transaction() as connection:
            names = connection.execute(
                """
                UPDATE destinations SET
                    position = max(position, :position),
                    reserved = NULL,
                    delivered = delivered + :delivered,
                    last_success_at = iif(:delivered, :now, last_success_at),
                    last_error = iif(:delivered, NULL, last_error)
                WHERE id = :id
                RETURNING name
                """,
                {"id": id, "position": position, "delivered": delivered, "now": now()},
            ).fetchall()
            if not names:
                raise _no_destination()
            connection.executemany(
                f"""
                INSERT INTO dead_letters (destination, {_EVENT_COLUMNS}, code, message, attempts, died_at)
                SELECT {", ".join("?" * (len(StoredEvent._fields) + 5))}
                WHERE EXISTS (SELECT 1 FROM events WHERE id = ?)
                ON CONFLICT (destination, event_id) DO UPDATE SET
                    code = excluded.code,
                    message = excluded.message,
                    attempts = attempts + excluded.attempts,
                    died_at = excluded.died_at
                """,
                [(names[0][0], *letter.event, *letter[1:], letter.event.id) for letter in dead],
            )

    def note_failure(self, id: int, error: str) -> None:
        """Note a failed attempt. Do nothing if the destination was removed in the meantime."""
        changes = "failures = failures + 1, last_error = :error, last_error_at = :now"
        with suppress(NotPossible):
            self._update(changes, id=id, error=error, now=now())

    def dead_letters(self, name: str) -> list[DeadLetter]:
        """Return a destination's dead letters in the order of their events."""
        self.get(name)
        rows = self._read.read(
            f"SELECT {_EVENT_COLUMNS}, code, message, attempts, died_at FROM dead_letters "
            "WHERE destination = ? ORDER BY event_id",
            (name,),
        )
        width = len(StoredEvent._fields)
        return [DeadLetter(StoredEvent(*row[:width]), *row[width:]) for row in rows]

    def count_dead(self, name: str) -> int:
        """Return the number of a destination's dead letters; 0 without a destination."""
        return int(self._read.read("SELECT count(*) FROM dead_letters WHERE destination = ?", (name,))[0][0])

    def delete_dead_letters(self, id: int, event_ids: Sequence[int]) -> None:
        """Delete dead letters of these events, which were delivered after all."""
        with self._written.transaction() as connection:
            connection.executemany(
                "DELETE FROM dead_letters WHERE event_id = ?"
                " AND destination = (SELECT name FROM destinations WHERE id = ?)",
                [(event_id, id) for event_id in event_ids],
            )

    def _update(self, changes: str, *, id: int | None = None, name: str | None = None, **values: str | int) -> None:
        """Change the destination with this id or name, by assignments in SQL."""
        with self._written.transaction() as connection:
            bindings = {"id": id, "name": name, **values}
            connection.execute(f"UPDATE destinations SET {changes} WHERE id = :id OR name = :name", bindings)
            if not connection.changes():
                raise _no_destination(name)

    def _select(self, condition: str, *bindings: str) -> list[Destination]:
        rows = self._read.read(
            f"SELECT {', '.join(Destination._fields)} FROM destinations {condition} ORDER BY name", bindings
        )
        return [
            Destination(id, name, url, tuple(json.loads(types)), tuple(json.loads(sources)), bool(paused), *progress)
            for id, name, url, types, sources, paused, *progress in rows
        ]


def _no_destination(name: str | None = None) -> NotPossible:
    return NotPossible(f"There is no destination {name!r}" if name else "The destination was removed")
