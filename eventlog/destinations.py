"""The tables of destinations, with the cursor of each, and of dead letters."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from .database import Tables
from .dead_letters import EVENT_COLUMNS, TRANSFORM_FAILED, DeadLetter, add_dead_letters, take_back
from .errors import NotPossible
from .reader import StoredEvent, oldest_after
from .times import now

STATES = ("ok", "paused", "failing", "refusing")


class Destination(NamedTuple):
    """A row of the table. The migrations 0005, 0008, 0010 and 0011 say what the columns mean."""

    id: int
    name: str
    url: str
    headers: dict[str, str]
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
    refused_from: int | None
    resumed_at: str | None
    event_rules: str  # JSON

    @property
    def state(self) -> str:
        """One of STATES. The position of a refusing destination was moved back to before the refused events."""
        if self.paused:
            return "paused"
        if self.refused_from == self.position:
            return "refusing"
        return "failing" if self.last_error else "ok"


class Progress(NamedTuple):
    """How far a destination has got."""

    name: str
    waiting: int  # events after its position, including those that it does not want
    oldest: str | None  # about when the oldest of them was received
    delivered: int
    failures: int
    dead: int  # dead letters


class Destinations(Tables):
    """The log's tables of destinations and dead letters.

    An operator uses a destination's name. A forwarder uses its id, so that it never changes another destination that
    was added under the same name. Unless a method says otherwise, it raises NotPossible without the destination.
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
        headers: Mapping[str, str] = {},
        event_rules: str = "{}",
    ) -> None:
        """Add a destination that starts after `position`, an event's id. Raise NotPossible if the name is taken."""
        with self._written.transaction() as connection:
            connection.execute(
                """
                INSERT INTO destinations (name, url, headers, types, sources, position, created_at, event_rules)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO NOTHING
                """,
                (name, url, *map(json.dumps, (headers, types, sources)), position, now(), event_rules),
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
        """Stop deliveries; or resume them, and end the wait after a failure."""
        changes = "paused = :paused, resumed_at = iif(:paused, resumed_at, :now)"
        self._update(changes, name=name, paused=paused, now=now())

    def set_url(self, name: str, url: str, headers: Mapping[str, str], event_rules: str) -> None:
        """Deliver to a URL with these headers and rules from now on, and forget the old ones' failures and refusals."""
        changes = "url = :url, headers = :headers, event_rules = :event_rules, last_error = NULL, refused_from = NULL"
        self._update(changes, name=name, url=url, headers=json.dumps(headers), event_rules=event_rules)

    def forget_failures(self, id: int) -> None:
        """Set the state to `ok`, and let a forwarder that waits after a failure try at once."""
        self._update("last_error = NULL, refused_from = NULL, resumed_at = :now", id=id, now=now())

    def note_batch_end(self, id: int, last: int) -> None:
        """Note where the next object ends, before it is written. A retry then writes the same object."""
        self._update("reserved = :last", id=id, last=last)

    def advance(self, id: int, position: int, delivered: int, dead: Sequence[DeadLetter] = ()) -> str | None:
        """Move the position: all events up to it are delivered, skipped or dead. Idempotent except for the counts.

        An event that was deleted from the log in the meantime leaves no dead letter. After MAX_REFUSALS refusals in a
        row, move the position back to before the first one, delete the dead letters, and return the error. A refusing
        destination stays so until it takes an event.
        """
        refused = [each for each in dead if each.code != TRANSFORM_FAILED]
        with self._written.transaction() as connection:
            rows: list[Any] = connection.execute(
                """
                UPDATE destinations SET
                    position = max(position, :position),
                    reserved = NULL,
                    delivered = delivered + :delivered,
                    last_success_at = iif(:delivered, :now, last_success_at),
                    last_error = iif(:delivered OR refused_from IS NOT position, NULL, last_error),
                    refused_from = CASE
                        WHEN :delivered THEN NULL
                        WHEN :refused THEN coalesce(refused_from, position)
                        WHEN refused_from = position THEN max(position, :position)
                        ELSE refused_from
                    END
                WHERE id = :id
                RETURNING name, refused_from
                """,
                {"id": id, "position": position, "delivered": delivered, "refused": len(refused), "now": now()},
            ).fetchall()
            if not rows:
                raise _no_destination()
            name, refused_from = rows[0]
            add_dead_letters(connection, name, dead)
            return take_back(connection, id, name, refused_from, refused[-1]) if refused and not delivered else None

    def note_failure(self, id: int, error: str) -> None:
        """Note a failed attempt. Do nothing if the destination was removed in the meantime."""
        changes = "failures = failures + 1, last_error = :error, last_error_at = :now"
        with suppress(NotPossible):
            self._update(changes, id=id, error=error, now=now())

    def dead_letters(self, name: str) -> list[DeadLetter]:
        """Return a destination's dead letters in the order of their events."""
        self.get(name)
        rows = self._read.read(
            f"SELECT {EVENT_COLUMNS}, code, message, attempts, died_at FROM dead_letters "
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
        load = json.loads
        return [
            Destination(id, name, url, load(headers), tuple(load(types)), tuple(load(sources)), bool(paused), *progress)
            for id, name, url, headers, types, sources, paused, *progress in rows
        ]


def _no_destination(name: str | None = None) -> NotPossible:
    return NotPossible(f"There is no destination {name!r}" if name else "The destination was removed")
