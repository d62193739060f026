"""What was refused: looked through, replayed, deleted. Only appending to it is elsewhere, with the events."""

from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

from .database import Database
from .faults import NotPossible
from .patience import PATIENCE
from .records import Event, dedupe_key
from .removal import remove
from .times import now


class StoredRejection(NamedTuple):
    """A refused body as it is kept."""

    id: int
    source: str
    received_at: str
    route: str
    code: str
    message: str
    errors: str  # JSON
    body: bytes
    cut: bool
    digest: str  # of the body as it was sent, 16 bytes in hexadecimal
    times_seen: int
    replayed_at: str | None
    became: int | None  # the id of the event that it became, or of a batch's first


_COLUMNS = ", ".join(StoredRejection._fields)

_CHOSEN = """
    (:code IS NULL OR code = :code) AND (:source IS NULL OR source = :source)
    AND (:replayed OR replayed_at IS NULL)
"""


class Rejections:
    """The log's table of what was refused."""

    def __init__(self, read: Database, written: Database) -> None:
        self._read = read
        self._written = written

    def get(self, id: int) -> StoredRejection:
        """Return one of them; raise NotPossible if there is none with this id."""
        rows = self._read.read(f"SELECT {_COLUMNS} FROM rejected WHERE id = ?", (id,))
        if not rows:
            raise NotPossible(f"There is nothing rejected with the id {id}")
        return _rejection(rows[0])

    def last(
        self, limit: int, *, code: str | None = None, source: str | None = None, replayed: bool = False
    ) -> list[StoredRejection]:
        """Return the newest, oldest first; those that were replayed only if asked for."""
        rows = self._read.read(
            f"SELECT {_COLUMNS} FROM rejected WHERE {_CHOSEN} ORDER BY id DESC LIMIT :limit",
            {"limit": limit, "code": code, "source": source, "replayed": replayed},
        )
        return [_rejection(row) for row in reversed(rows)]

    def ids(self, *, code: str | None = None, source: str | None = None, replayed: bool = False) -> list[int]:
        """Return which there are, oldest first."""
        rows = self._read.read(
            f"SELECT id FROM rejected WHERE {_CHOSEN} ORDER BY id",
            {"code": code, "source": source, "replayed": replayed},
        )
        return [id for (id,) in rows]

    def mark(self, id: int, events: Sequence[Event]) -> int:
        """Note the stored events that a rejection became; return the id of the first."""
        keys = [dedupe_key(event.source, event.message_id) for event in events]
        with self._written.transaction(monotonic() + PATIENCE) as connection:
            found = [connection.execute("SELECT id FROM events WHERE dedupe_key = ?", (key,)).get for key in keys]
            became = min(each for each in found if each is not None)
            connection.execute("UPDATE rejected SET replayed_at = ?, became = ? WHERE id = ?", (now(), became, id))
        return int(became)

    def delete(self, ids: Sequence[int]) -> int:
        """Delete them, in small transactions that ingest does not feel; return how many there were."""
        return remove(self._written, "rejected", ids)


def _rejection(row: tuple[Any, ...]) -> StoredRejection:
    rejection = StoredRejection(*row)
    return rejection._replace(cut=bool(rejection.cut))
