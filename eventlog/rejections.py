"""The table of rejections: list, delete, and mark as replayed. Appends are in records.py."""

from collections.abc import Sequence
from typing import NamedTuple

from .database import Tables
from .errors import NotPossible
from .records import Event, dedupe_key
from .row_deletion import delete_rows
from .times import now


class StoredRejection(NamedTuple):
    """A row of the table."""

    id: int
    source: str
    received_at: str
    route: str
    code: str
    message: str
    errors: str  # JSON
    body: bytes
    cut: int  # 1 if the body is only the beginning of the one that was sent, else 0
    digest: str  # of the body as sent, 16 bytes in hexadecimal
    times_seen: int
    replayed_at: str | None
    became: int | None  # the id of the event that it became, or of a batch's first


_MATCHES = """
    (:code IS NULL OR code = :code) AND (:source IS NULL OR source = :source) AND (:replayed OR replayed_at IS NULL)
"""


class Rejections(Tables):
    """The log's table of rejections."""

    def get(self, id: int) -> StoredRejection:
        """Return the rejection with this id. Raise NotPossible if there is none."""
        for rejection in self._select("id = :id", id=id):
            return rejection
        raise NotPossible(f"There is nothing rejected with the id {id}")

    def last(
        self, limit: int, *, code: str | None = None, source: str | None = None, replayed: bool = False
    ) -> list[StoredRejection]:
        """Return the newest rejections, oldest first. Leave out replayed ones unless `replayed`."""
        condition = f"{_MATCHES} ORDER BY id DESC LIMIT :limit"
        return self._select(condition, limit=limit, code=code, source=source, replayed=replayed)[::-1]

    def read_after(self, cursor: int, limit: int, *, source: str | None = None) -> list[StoredRejection]:
        """Return the next rejections with an id above `cursor`, replayed or not, oldest first."""
        condition = f"id > :cursor AND {_MATCHES} ORDER BY id LIMIT :limit"
        return self._select(condition, cursor=cursor, limit=limit, code=None, source=source, replayed=True)

    def last_id(self) -> int:
        """Return the newest rejection's id, or 0 if there is none."""
        return int(self._read.read("SELECT coalesce(max(id), 0) FROM rejected")[0][0])

    def ids(self, *, code: str | None = None, source: str | None = None, replayed: bool = False) -> list[int]:
        """Return the ids of rejections, oldest first. Leave out replayed ones unless `replayed`."""
        rows = self._read.read(
            f"SELECT id FROM rejected WHERE {_MATCHES} ORDER BY id",
            {"code": code, "source": source, "replayed": replayed},
        )
        return [id for (id,) in rows]

    def mark_replayed(self, id: int, events: Sequence[Event]) -> int:
        """Mark a rejection as replayed into these stored events. Return the id of the first of them."""
        keys = [dedupe_key(event.source, event.message_id) for event in events]
        with self._written.transaction() as connection:
            found = [connection.execute("SELECT id FROM events WHERE dedupe_key = ?", (key,)).get for key in keys]
            became = min(each for each in found if each is not None)
            connection.execute("UPDATE rejected SET replayed_at = ?, became = ? WHERE id = ?", (now(), became, id))
        return int(became)

    def delete(self, ids: Sequence[int]) -> int:
        """Delete rejections in small transactions that do not delay senders. Return how many there were."""
        return delete_rows(self._written, "rejected", ids)

    def _select(self, condition: str, **bindings: str | int | None) -> list[StoredRejection]:
        rows = self._read.read(f"SELECT {', '.join(StoredRejection._fields)} FROM rejected WHERE {condition}", bindings)
        return [StoredRejection(*row) for row in rows]
