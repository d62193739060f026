"""The table of sources: requests look them up, commands change them while the service runs."""

import secrets
from time import monotonic
from typing import Any, NamedTuple

from .database import Database
from .errors import NotPossible, Unavailable
from .reserve import make_room
from .times import now
from .waiting import WAIT_SECONDS

CACHE_SECONDS = 1.0  # until a source is looked up again
LOOKUP_WAIT_SECONDS = 0.5  # short, since the request waits for its commit too


class Source(NamedTuple):
    """A sender of events. It authenticates with the id; events, counts and commands use the name."""

    id: str
    name: str
    enabled: bool
    created_at: str


class Sources:
    """The log's table of sources."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: dict[str, tuple[Source, float]] = {}

    def find(self, id: str) -> Source | None:
        """Return the source with this id, or None. The answer is up to CACHE_SECONDS old.

        While the log cannot be read, a source that was found before stays valid. For others it raises Unavailable.
        """
        known, fresh_until = self._cache.get(id, (None, 0.0))
        if monotonic() < fresh_until:
            return known
        try:
            found = self._select("WHERE id = ?", (id,), LOOKUP_WAIT_SECONDS)
        except Unavailable:
            if known is None:
                raise
            found = [known]
        if not found:
            self._cache.pop(id, None)
            return None
        self._cache[id] = found[0], monotonic() + CACHE_SECONDS
        return found[0]

    def named(self, name: str) -> Source:
        """Return the source with this name. Raise NotPossible if there is none."""
        for source in self._select("WHERE name = ?", (name,)):
            return source
        raise NotPossible(f"There is no source {name!r}")

    def all(self) -> list[Source]:
        """Return all sources by name."""
        return self._select("ORDER BY name")

    def add(self, name: str, id: str | None = None) -> Source:
        """Add a source, with a random id if none is given. If it exists already, return it as it is.

        Raises NotPossible if the name or id is invalid, or another source has one of them.
        """
        check_name(name)
        if id is not None and (not id.isprintable() or id != id.strip() or not id or ":" in id):
            raise NotPossible("A Source ID is printable text without a colon or blanks around it")
        make_room(self._database)
        with self._database.transaction() as connection:
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
        """Let a source send, or stop it. Workers notice within CACHE_SECONDS. Raise NotPossible if there is none."""
        make_room(self._database)
        with self._database.transaction() as connection:
            connection.execute("UPDATE sources SET enabled = ? WHERE name = ?", (enabled, name))
            if not connection.changes():
                raise NotPossible(f"There is no source {name!r}")

    def _select(
        self, condition: str, bindings: tuple[Any, ...] = (), wait_seconds: float = WAIT_SECONDS
    ) -> list[Source]:
        rows = self._database.read(
            f"SELECT id, name, enabled, created_at FROM sources {condition}", bindings, wait_seconds
        )
        return [Source(id, name, bool(enabled), created_at) for id, name, enabled, created_at in rows]


def check_name(name: str) -> None:
    """Raise NotPossible if no source can have this name."""
    if not name.isprintable() or name != name.strip() or not name:
        raise NotPossible("A source's name is printable text without blanks around it")
