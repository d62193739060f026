"""Where events are forwarded to, how far each destination has got, and what it refused for good."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, NamedTuple

from .database import Database
from .faults import NotPossible
from .patience import PATIENCE
from .reader import StoredEvent, oldest_after
from .times import now


class Destination(NamedTuple):
    """A row of the table; see schema_5.sql for what the columns mean."""

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


class Progress(NamedTuple):
    """How far a destination has got."""

    name: str
    waiting: int  # events past its position, among them those that it does not want
    oldest: str | None  # about when the oldest of them was received
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
    """The log's tables of destinations and dead letters. Everything that names no destination raises NotPossible.

    An operator names a destination. A forwarder changes one by its id, so that it never touches another one that was
    added under the same name.
    """

    def __init__(self, read: Database, written: Database) -> None:
        self._read = read
        self._written = written

    def all(self) -> list[Destination]:
        """Return all destinations by name."""
        return self._select("")

    def progress(self) -> list[Progress]:
        """Return how far each destination is, by name; costs the same however many events wait."""
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
        for destination in self._select("WHERE name = ?", name):
            return destination
        raise _none_named(name)

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
        with self._writing() as connection:
            connection.execute("DELETE FROM destinations WHERE name = ?", (name,))
            if not connection.changes():
                raise _none_named(name)
            connection.execute("DELETE FROM dead_letters WHERE destination = ?", (name,))

    def pause(self, name: str, paused: bool) -> None:
        if not self._update("paused = :paused WHERE name = :name", name=name, paused=paused):
            raise _none_named(name)

    def set_url(self, name: str, url: str) -> None:
        """Deliver to another URL from now on. All else stays, but for the last error, which was the old one's."""
        if not self._update("url = :url, last_error = NULL WHERE name = :name", name=name, url=url):
            raise _none_named(name)

    def reserve(self, id: int, last: int) -> None:
        """Note, before it is written, that the next object ends with the event `last`: a repeat writes the same one."""
        if not self._update("reserved = :last WHERE id = :id", id=id, last=last):
            raise NotPossible("The destination was removed")

    def advance(self, id: int, position: int, delivered: int, dead: Sequence[DeadLetter] = ()) -> None:
        """Note that everything up to `position` is settled: delivered, skipped, or dead. Idempotent but for counts.

        An event that has gone from the log meanwhile leaves no dead letter.
        """
        with self._writing() as connection:
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
                raise NotPossible("The destination was removed")
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
                    (names[0][0], *letter.event, *letter[1:], letter.event.id),
                )

    def note_failure(self, id: int, error: str) -> None:
        """Note an attempt that did not succeed, unless the destination was removed meanwhile."""
        self._update(
            "failures = failures + 1, last_error = :error, last_error_at = :now WHERE id = :id",
            id=id,
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

    def revive(self, id: int, event_ids: Sequence[int]) -> None:
        """Strike off dead letters that were delivered after all."""
        with self._writing() as connection:
            for event_id in event_ids:
                connection.execute(
                    "DELETE FROM dead_letters WHERE event_id = ?"
                    " AND destination = (SELECT name FROM destinations WHERE id = ?)",
                    (event_id, id),
                )

    def _writing(self) -> AbstractContextManager[Any]:
        return self._written.transaction(monotonic() + PATIENCE)

    def _update(self, what_and_where: str, **values: str | int) -> bool:
        """Change one destination; tell whether there was one."""
        with self._writing() as connection:
            connection.execute(f"UPDATE destinations SET {what_and_where}", values)
            return bool(connection.changes())

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


def _none_named(name: str) -> NotPossible:
    return NotPossible(f"There is no destination {name!r}")
