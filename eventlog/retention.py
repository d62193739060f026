"""Remove what is old, or too much."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .database import Database
from .removal import USED_BYTES, remove

STRETCH = 100_000  # events in a row of which none is old: behind them, none is looked for
CHUNK = 500  # rows that are looked for at a time

#: Of an event that a destination lacks; or, of those that go all the same, one of an archive's object that is being
#: written: a repeat has to write the same one.
_HELD = """EXISTS (
    SELECT 1 FROM destinations WHERE events.id > position AND (NOT :even_undelivered OR events.id <= reserved)
)"""


class Pruned(NamedTuple):
    """What has gone, and what has not."""

    removed: int  # events
    dropped: int  # refused bodies
    kept: int  # events that were to go, but that a destination lacks
    rest_bytes: int = 0  # of all else in the log, if that alone is too much; then nothing was removed for its size


class Retention:
    """How long the log keeps what it has, and how much of it."""

    def __init__(self, read: Database, written: Database) -> None:
        self._read = read
        self._written = written

    def prune(
        self,
        *,
        before: str | None = None,
        most_bytes: int | None = None,
        even_undelivered: bool = False,
        report: Callable[[int], object] = lambda walked: None,
    ) -> Pruned:
        """Remove what was received `before` a time, and then the oldest until at most `most_bytes` are used.

        The oldest are refused bodies first, and events only after all of these. What a destination lacks stays, unless
        it is to go `even_undelivered`. `report` hears how many ids more are behind it; `estimate` says of how many.
        """
        removed = dropped = kept = more = held = 0
        if before is not None:
            dropped = self._prune_rejected(before, -1)
            removed, kept = self._prune_events(before, -1, even_undelivered, report)
        if most_bytes is not None and self.used_bytes() > most_bytes:
            rest = self._rest_bytes()
            if rest > most_bytes:
                return Pruned(removed, dropped, kept, rest)
            dropped += self._prune_rejected(None, most_bytes)
            more, held = self._prune_events(None, most_bytes, even_undelivered, report)
        return Pruned(removed + more, dropped, max(kept, held))

    def estimate(self, before: str | None, most_bytes: int | None) -> int:
        """Return how many ids a prune will walk, if clocks ran right, events are alike, and none is held."""
        ((first, last),) = self._read.read("SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM events")
        ids, old, surplus = range(first, last + 1), 0, 0.0
        if before is not None:
            old = bisect_left(ids, before, key=self._received_at)
        if most_bytes is not None:
            ((rejected,),) = self._read.read("SELECT bytes FROM rejected_size")
            surplus = 1 - most_bytes / max(1, self.used_bytes() - rejected)
        return max(old, int(surplus * len(ids)))

    def used_bytes(self) -> int:
        """Return what the log takes without the pages that are free, which will be used again."""
        return int(self._read.read(USED_BYTES)[0][0])

    def _rest_bytes(self) -> int:
        """Return what the log would take without all its events and refused bodies. It reads the pages of that rest."""
        return int(
            self._read.read(
                """
                WITH trees AS (
                    SELECT name, tbl_name IN ('events', 'rejected') AS is_removable
                    FROM sqlite_schema WHERE rootpage > 0
                    UNION ALL SELECT 'sqlite_schema', false
                )
                SELECT sum(iif(
                    is_removable,
                    page_size,  -- an empty tree keeps its first page
                    (SELECT pgsize FROM dbstat WHERE dbstat.name = trees.name AND aggregate = 1)
                ))
                FROM trees, pragma_page_size
                """
            )[0][0]
        )

    def _received_at(self, id: int) -> str:
        """When the event with this id was received, or the next one that there is; after all times if there is none."""
        query = "SELECT coalesce((SELECT received_at FROM events WHERE id >= ? ORDER BY id LIMIT 1), 'Z')"
        return str(self._read.read(query, (id,))[0][0])

    def _prune_rejected(self, before: str | None, most_bytes: int) -> int:
        dropped = 0
        for ids, _, _ in self._walk("rejected", "false", before, False):
            if self.used_bytes() <= most_bytes:
                break
            dropped += remove(self._written, "rejected", ids, most_bytes=most_bytes)
        return dropped

    def _prune_events(
        self, before: str | None, most_bytes: int, even_undelivered: bool, report: Callable[[int], object]
    ) -> tuple[int, int]:
        removed = kept = 0
        for ids, held, walked in self._walk("events", _HELD, before, even_undelivered):
            # Asked again, since a destination may be added at any time.
            gone = remove(
                self._written, "events", ids, unless=_HELD, most_bytes=most_bytes, even_undelivered=even_undelivered
            )
            removed, kept = removed + gone, kept + held + len(ids) - gone
            if self.used_bytes() <= most_bytes:
                return removed, 0
            report(walked)
        return removed, kept

    def _walk(
        self, table: str, is_held: str, before: str | None, even_undelivered: bool
    ) -> Iterator[tuple[list[int], int, int]]:
        """Yield ids of rows received before a time, or of all; how many more are held; how many ids are behind them.

        No index knows the times, and clocks step back: so each row is judged by its own, from the smallest id on.
        """
        cursor, last = self._read.read(f"SELECT coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM {table}")[0]
        while rows := self._read.read(
            f"""
            SELECT id, {is_held} FROM (
                SELECT id, received_at FROM {table} WHERE id > :cursor AND id <= :last ORDER BY id LIMIT {STRETCH}
            ) AS {table}
            WHERE :before IS NULL OR received_at < :before LIMIT {CHUNK}
            """,
            {"cursor": cursor, "last": last, "before": before, "even_undelivered": even_undelivered},
        ):
            ids = [id for id, held in rows if not held]
            yield ids, len(rows) - len(ids), rows[-1][0] - cursor
            cursor = rows[-1][0]
