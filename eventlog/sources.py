"""The sources that may send: looked up at every call, changed by commands while the service runs."""

import secrets
from time import monotonic
from typing import Any, NamedTuple

from .database import Database
from .faults import NotPossible, Unavailable
from .patience import PATIENCE
from .reserve import make_room
from .times import now

FRESH = 1.0  # seconds for which a source that was found is not looked up again
LOOK_UP = 0.5  # seconds that a request waits for it, as it has to wait for its event's commit too


class Source(NamedTuple):
    """Somebody who may send events; the id is what senders authenticate with, the name what everybody else uses."""

    id: str
    name: str
    enabled: bool
    created_at: str


class Sources:
    """The log's table of sources."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: dict[str, tuple[Source, float]] = {}

    def find(self, id: str) -> Source | None:
        """Return the source with this id, as it was within the last second, or None if there is none.

        While the log cannot be read, a source found before stays good; for others Unavailable is raised.
        """
        known, fresh_until = self._found.get(id, (None, 0.0))
        if monotonic() < fresh_until:
            return known
        try:
            found = self._select("WHERE id = ?", (id,), LOOK_UP)
        except Unavailable:
            if known is None:
                raise
            found = [known]
        if not found:
            self._found.pop(id, None)
            return None
        self._found[id] = found[0], monotonic() + FRESH
        return found[0]

    def named(self, name: str) -> Source:
        """Return the source with this name; raise NotPossible if there is none."""
        for source in self._select("WHERE name = ?", (name,)):
            return source
        raise NotPossible(f"There is no source {name!r}")

    def all(self) -> list[Source]:
        """Return all sources by name."""
        return self._select("ORDER BY name")

    def add(self, name: str, id: str | None = None) -> Source:
        """Register a source, with a random id if none is given; one that is there already is returned as it is.

        Raises NotPossible for a name or id that cannot serve, and where another source has one of the two.
        """
        check_name(name)
        if id is not None and (not id.isprintable() or id != id.strip() or not id or ":" in id):
            raise NotPossible("A Source ID is printable text without a colon or blanks around it")
        make_room(self._database)
        with self._database.transaction(monotonic() + PATIENCE) as connection:
            connection.execute(
                """
                INSERT INTO sources (id, name, created_at)
                VALUES (?, ?, ?)
                ON CONFLICT DO NOTHING
                """,
                (id or secrets.token_urlsafe(16), name, now()),
            )
        (source, *others) = self._select("WHERE name = ? OR id = ?", (name, id))
        if others or source.name != name or id not in (None, source.id):
            raise NotPossible(f"The source {source.name!r} has the id {source.id} already")
        return source

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Let a source send, or stop it; workers that run follow within a second. Raises NotPossible without one."""
        make_room(self._database)
        with self._database.transaction(monotonic() + PATIENCE) as connection:
            connection.execute("UPDATE sources SET enabled = ? WHERE name = ?", (enabled, name))
            if not connection.changes():
                raise NotPossible(f"There is no source {name!r}")

    def _select(self, condition: str, bindings: tuple[Any, ...] = (), patience: float = PATIENCE) -> list[Source]:
        rows = self._database.read(f"SELECT id, name, enabled, created_at FROM sources {condition}", bindings, patience)
        return [Source(id, name, bool(enabled), created_at) for id, name, enabled, created_at in rows]


def check_name(name: str) -> None:
    """Raise NotPossible for a name that no source can have."""
    if not name.isprintable() or name != name.strip() or not name:
        raise NotPossible("A source's name is printable text without blanks around it")
