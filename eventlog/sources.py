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
    """A sender of events with one of its keys, the id. Events, counts and commands use the name.

    The times are the key's.
    """

    id: str
    name: str
    enabled: bool
    created_at: str
    retired_at: str | None = None


class Sources:
    """The log's table of sources."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: dict[str, tuple[Source, float]] = {}

    def find(self, id: str) -> Source | None:
        """Return the source with this key, or None. The answer is up to CACHE_SECONDS old.

        While the log cannot be read, a source that was found before stays valid. For others it raises Unavailable.
        """
        known, fresh_until = self._cache.get(id, (None, 0.0))
        if monotonic() < fresh_until:
            return known
        try:
            found = self._select("WHERE key.id = ? AND retired_at IS NULL", (id,), LOOKUP_WAIT_SECONDS)
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
        """Return the source with this name and one of its keys in use. Raise NotPossible if there is none."""
        for source in self._select("WHERE name = ? AND key.id = sources.id", (name,)):
            return source
        raise NotPossible(f"There is no source {name!r}")

    def all(self) -> list[Source]:
        """Return all sources by name, each with one of its keys in use."""
        return self._select("WHERE key.id = sources.id ORDER BY name")

    def all_keys(self) -> list[Source]:
        """Return all sources by name, once for each of their keys, retired ones too, from the oldest."""
        return self._select("ORDER BY name, key.rowid")

    def add(self, name: str, id: str | None = None) -> Source:
        """Add a source, with a random id if none is given. If it exists already, return it as it is.

        Raises NotPossible if the name or id is invalid, or another source has one of them.
        """
        check_name(name)
        _check_key(id)
        make_room(self._database)
        with self._database.transaction() as connection:
            connection.execute(
                """
                INSERT INTO sources (id, name, created_at)
                SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM source_keys WHERE id = ?1)
                ON CONFLICT DO NOTHING
                """,
                (id or secrets.token_urlsafe(16), name, now()),
            )
        return self._owned(name, id)

    def add_key(self, name: str, id: str | None = None) -> Source:
        """Add a key to a source, a random one if none is given. The source keeps its other keys.

        A retired key of the source is in use again. Raises NotPossible if there is no such source, or if the key is
        invalid or another source's.
        """
        _check_key(id)
        id = id or secrets.token_urlsafe(16)
        make_room(self._database)
        with self._database.transaction() as connection:
            connection.execute(
                """
                INSERT INTO source_keys (id, source, created_at) SELECT ?, name, ? FROM sources WHERE name = ?
                ON CONFLICT DO UPDATE SET retired_at = NULL WHERE source = excluded.source
                """,
                (id, now(), name),
            )
        return self._owned(name, id)

    def retire_key(self, name: str, id: str) -> None:
        """Let nobody use a source's key any more. Workers notice within CACHE_SECONDS.

        Raises NotPossible if the source has no such key, or no other one in use.
        """
        make_room(self._database)
        with self._database.transaction() as connection:
            query = "SELECT id, retired_at FROM source_keys WHERE source = ? ORDER BY rowid"
            keys = connection.execute(query, (name,)).fetchall()
            others = [other for other, retired_at in keys if other != id and retired_at is None]
            if id not in [each for each, _ in keys]:
                raise NotPossible(f"There is no source {name!r} with the Source ID {id}")
            if not others:
                raise NotPossible(f"The source {name!r} has no other key. Add one first, or disable the source")
            retire = "UPDATE source_keys SET retired_at = ? WHERE id = ? AND retired_at IS NULL"
            connection.execute(retire, (now(), id))
            connection.execute("UPDATE sources SET id = ? WHERE name = ?", (others[0], name))

    def remove(self, name: str) -> None:
        """Delete a source and its keys. Raise NotPossible if there is none, or something in the log names it."""
        make_room(self._database)
        self.named(name)
        with self._database.transaction() as connection:
            # Every event and rejection was counted, and its counts stay after it is deleted.
            connection.execute(
                """
                DELETE FROM sources WHERE name = ?1
                    AND NOT EXISTS (SELECT 1 FROM counts WHERE source = ?1)
                    AND NOT EXISTS (SELECT 1 FROM destinations, json_each(destinations.sources) WHERE value = ?1)
                """,
                (name,),
            )
            if not connection.changes():
                raise NotPossible(f"Events or destinations in the log name the source {name!r}. Disable it instead")
            connection.execute("DELETE FROM source_keys WHERE source = ?", (name,))

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Let a source send, or stop it. Workers notice within CACHE_SECONDS. Raise NotPossible if there is none."""
        make_room(self._database)
        with self._database.transaction() as connection:
            connection.execute("UPDATE sources SET enabled = ? WHERE name = ?", (enabled, name))
            if not connection.changes():
                raise NotPossible(f"There is no source {name!r}")

    def _owned(self, name: str, id: str | None) -> Source:
        """Return the source with this name and, if one is given, this key. Raise NotPossible if it does not have it."""
        found = self._select("WHERE key.id = ?", (id,)) if id else []
        source = found[0] if found else self.named(name)
        if source.name != name or source.retired_at or id not in (None, source.id):
            state = "retired " if source.retired_at else ""
            raise NotPossible(f"The source {source.name!r} has the {state}id {source.id} already")
        return source

    def _select(
        self, condition: str, bindings: tuple[Any, ...] = (), wait_seconds: float = WAIT_SECONDS
    ) -> list[Source]:
        query = f"""
            SELECT key.id, name, enabled, key.created_at, retired_at
            FROM source_keys AS key JOIN sources ON name = source {condition}
        """
        rows = self._database.read(query, bindings, wait_seconds)
        return [Source(id, name, bool(enabled), *times) for id, name, enabled, *times in rows]


def check_name(name: str) -> None:
    """Raise NotPossible if no source can have this name."""
    if not name.isprintable() or name != name.strip() or not name:
        raise NotPossible("A source's name is printable text without blanks around it")


def _check_key(id: str | None) -> None:
    if id is not None and (not id.isprintable() or id != id.strip() or not id or ":" in id):
        raise NotPossible("A Source ID is printable text without a colon or blanks around it")
