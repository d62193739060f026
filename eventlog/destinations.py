"""Where events are forwarded to, how far each destination has got, and what it refused for good."""

import json
from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

from .database import Database
from .faults import NotPossible
from .patience import PATIENCE
from .reader import StoredEvent
from .times import now


class Destination(NamedTuple):
    """A row of the table; see schema_3.sql for what the columns mean."""

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


class Progress(NamedTuple):
    """How far a destination has got."""

    name: str
    waiting: int  # events past its position, among them those that it does not want
    oldest: str | None  # when the first of them was received
    delivered: int
    failures: int
    dead: int


class DeadLetter(NamedTuple):
    """An event that a destination refused for good, and why."""

    event: StoredEvent
    code: str
    message: str
    attempts: int
    died_at: str


_EVENT_COLUMNS = ", ".join("event_id" if column == "id" else column for column in StoredEvent._fields)


class Destinations:
    """The log's tables of destinations and dead letters. Everything that names no destination raises NotPossible."""

    def __init__(self, read: Database, written: Database) -> None:
        self._read = read
        self._written = written

    def all(self) -> list[Destination]:
        """Return all destinations by name."""
        return self._select("")

    def progress(self) -> list[Progress]:
        """Return how far each destination is, by name; costs the same however many events wait."""
        rows = self._read.read(
            """
            SELECT
                destinations.name,
                coalesce((SELECT max(id) FROM events) - first.id + 1, 0),
                first.received_at,
                delivered,
                failures,
                (SELECT count(*) FROM dead_letters WHERE destination = destinations.name)
            FROM destinations LEFT JOIN events AS first
                ON first.id = (SELECT id FROM events WHERE id > position ORDER BY id LIMIT 1)
            ORDER BY destinations.name
            """
        )
        return [Progress(*row) for row in rows]

    def get(self, name: str) -> Destination:
        for destination in self._select("WHERE name = ?", name):
            return destination
        raise NotPossible(f"There is no destination {name!r}")

    def add(self, name: str, url: str, types: Sequence[str], sources: Sequence[str], position: int) -> None:
        """Add a destination that has everything up to `position`, an event's id."""
        with self._writing() as connection:
            connection.execute(
                """
                INSERT INTO destinations (name, url, types, sources, position, created_at)
                VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT DO NOTHING
                """,
                (name, url, json.dumps(types), json.dumps(sources), position, now()),
            )
            if not connection.changes():
                raise NotPossible(f"There is a destination {name!r} already")

    def remove(self, name: str) -> None:
        """Forget a destination and its dead letters."""
        self._update(name, "DELETE FROM destinations WHERE name = :name")
        with self._writing() as connection:
            connection.execute("DELETE FROM dead_letters WHERE destination = ?", (name,))

    def pause(self, name: str, paused: bool) -> None:
        self._update(name, "UPDATE destinations SET paused = :paused WHERE name = :name", paused=paused)

    def reserve(self, name: str, last: int) -> None:
        """Note, before it is written, that the next object ends with the event `last`: a repeat writes the same one."""
        self._update(name, "UPDATE destinations SET reserved = :last WHERE name = :name", last=last)

    def advance(self, name: str, position: int, delivered: int, dead: Sequence[DeadLetter] = ()) -> None:
        """Note that everything up to `position` is settled: delivered, skipped, or dead. Idempotent but for counts.

        An event that has gone from the log meanwhile leaves no dead letter.
        """
        with self._writing() as connection:
            for letter in dead:
                connection.execute(
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
                    (name, *letter.event, *letter[1:], letter.event.id),
                )
            connection.execute(
                """
                UPDATE destinations SET
                    position = max(position, :position),
                    reserved = NULL,
                    delivered = delivered + :delivered,
                    last_success_at = iif(:delivered, :now, last_success_at),
                    last_error = iif(:delivered, NULL, last_error)
                WHERE name = :name
                """,
                {"name": name, "position": position, "delivered": delivered, "now": now()},
            )

    def note_failure(self, name: str, error: str) -> None:
        self._update(
            name,
            """
            UPDATE destinations SET failures = failures + 1, last_error = :error, last_error_at = :now
            WHERE name = :name
            """,
            error=error,
            now=now(),
        )

    def dead_letters(self, name: str) -> list[DeadLetter]:
        """Return a destination's dead letters in the order of their events."""
        self.get(name)
        rows = self._read.read(
            f"SELECT {_EVENT_COLUMNS}, code, message, attempts, died_at FROM dead_letters "
            "WHERE destination = ? ORDER BY event_id",
            (name,),
        )
        cut = len(StoredEvent._fields)
        return [DeadLetter(StoredEvent(*row[:cut]), *row[cut:]) for row in rows]

    def count_dead(self, name: str) -> int:
        return int(self._read.read("SELECT count(*) FROM dead_letters WHERE destination = ?", (name,))[0][0])

    def revive(self, name: str, event_ids: Sequence[int]) -> None:
        """Strike off dead letters that were delivered after all."""
        with self._writing() as connection:
            for id in event_ids:
                connection.execute("DELETE FROM dead_letters WHERE destination = ? AND event_id = ?", (name, id))

    def _writing(self) -> Any:
        return self._written.transaction(monotonic() + PATIENCE)

    def _update(self, name: str, statement: str, **values: str | int) -> None:
        with self._writing() as connection:
            connection.execute(statement, {"name": name, **values})
            if not connection.changes():
                raise NotPossible(f"There is no destination {name!r}")

    def _select(self, condition: str, *bindings: str) -> list[Destination]:
        rows = self._read.read(
            f"SELECT {', '.join(Destination._fields)} FROM destinations {condition} ORDER BY name", bindings
        )
        found = [Destination(*row) for row in rows]
        return [
            each._replace(
                types=tuple(json.loads(str(each.types))),
                sources=tuple(json.loads(str(each.sources))),
                paused=bool(each.paused),
            )
            for each in found
        ]
