"""Delete old events and rejections, by age or by size."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .database import Tables
from .row_deletion import USED_BYTES, delete_rows
from .times import now

MAX_SKIPPED_ROWS = 100_000  # stop after as many consecutive rows that are newer than the cut-off
CHUNK_ROWS = 500  # found at a time

#: True for rows that must not be deleted yet: events that a destination has not received. With :even_undelivered,
#: only those of an archive's object that is being written. A retry after a crash must write exactly the same object.
_HELD = {
    "events": """EXISTS (
        SELECT 1 FROM destinations WHERE events.id > position AND (NOT :even_undelivered OR events.id <= reserved)
    )""",
    "rejected": "false",
}


class Pruned(NamedTuple):
    """The result of a prune, in rows but for `rest_bytes`."""

    removed: int  # events
    dropped: int  # rejections
    kept: int  # events that are due, but that a destination has not received
    rest_bytes: int = 0  # of everything else, if that alone is above the limit; then no row was deleted for its size
    dead_letters: int = 0


class Held(NamedTuple):
    """What a destination keeps from being deleted: events that were due at the last prune, and that it still lacks."""

    name: str
    events: int  # ids, from the first event that it lacks to the last that was due
    bytes: int  # about what they use of the log's file
    since: str | None  # the time of the first of the prunes in a row that kept events for it


class Retention(Tables):
    """Deletes the log's oldest rows, and knows which destinations keep it from that."""

    def prune(
        self,
        *,
        before: str | None = None,
        max_bytes: int | None = None,
        even_undelivered: bool = False,
        report: Callable[[int], object] = lambda passed: None,
    ) -> Pruned:
        """Delete rows received `before` a time and dead letters that died before it, then the oldest to `max_bytes`.

        For its size, rejections are deleted first, and events only after all of them. Events that a destination has not
        received stay, unless `even_undelivered`. `report` is called with the number of ids passed since its last call;
        `estimate` returns their total.
        """
        removed = dropped = kept = due = rest = dead = 0
        if before is not None:
            rows = self._read.read("SELECT id FROM dead_letters WHERE died_at < ?", (before,))
            dead = delete_rows(self._written, "dead_letters", (id for (id,) in rows)) if rows else 0
            dropped, _, _ = self._prune("rejected", before, -1, even_undelivered)
            removed, kept, due = self._prune("events", before, -1, even_undelivered, report)
        if max_bytes is not None and self.used_bytes() > max_bytes and (rest := self._rest_bytes()) <= max_bytes:
            surplus, _, _ = self._prune("rejected", None, max_bytes, even_undelivered)
            more, held, last = self._prune("events", None, max_bytes, even_undelivered, report)
            removed, dropped, kept, due, rest = removed + more, dropped + surplus, max(kept, held), max(due, last), 0
        self._note_held(due, even_undelivered)
        return Pruned(removed, dropped, kept, rest, dead)

    def held(self) -> list[Held]:
        """Return what each destination holds, ordered by name. The cost does not depend on the size of the log."""
        rows = self._read.read(
            f"""
            WITH log AS (
                SELECT (SELECT max(id) FROM events) - (SELECT min(id) FROM events) + 1 AS ids,
                       ({USED_BYTES}) - (SELECT bytes FROM rejected_size) AS bytes
            ), held AS (
                SELECT name, held_since, max(0, coalesce(
                    (SELECT max(id) FROM events WHERE id <= held_to) - (SELECT min(id) FROM events WHERE id > position)
                    + 1, 0)) AS ids
                FROM destinations
            )
            SELECT name, held.ids, coalesce(held.ids * log.bytes / log.ids, 0), iif(held.ids, held_since, NULL)
            FROM held, log ORDER BY name
            """
        )
        return [Held(*row) for row in rows]

    def estimate(self, before: str | None, max_bytes: int | None) -> int:
        """Return about how many ids a prune will pass. Assumes steady clocks, events of one size, and none held."""
        ((first, last),) = self._read.read("SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM events")
        ids, old, surplus = range(first, last + 1), 0, 0.0
        if before is not None:
            old = bisect_left(ids, before, key=self._received_at)
        if max_bytes is not None:
            ((rejected,),) = self._read.read("SELECT bytes FROM rejected_size")
            surplus = 1 - max_bytes / max(1, self.used_bytes() - rejected)
        return max(old, int(surplus * len(ids)))

    def used_bytes(self) -> int:
        """Return the bytes of the log's file in use. Free pages are left out, since they will be used again."""
        return int(self._read.read(USED_BYTES)[0][0])

    def _rest_bytes(self) -> int:
        """Return the bytes the log would use without events and rejections. It reads all other pages."""
        query = """
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
        return int(self._read.read(query)[0][0])

    def _note_held(self, due: int, even_undelivered: bool) -> None:
        """Note up to which event, the last that was `due`, each destination has kept the events that it lacks."""
        with self._written.transaction() as connection:
            connection.execute(
                """
                UPDATE destinations SET
                    held_since = iif(position < held_to, held_since, :now),
                    held_to = iif(:even_undelivered, min(:due, reserved), :due)
                """,
                {"due": due, "even_undelivered": even_undelivered, "now": now()},
            )

    def _received_at(self, id: int) -> str:
        """Return when the event with this id or the next was received, or 'Z', which sorts last."""
        query = "SELECT coalesce((SELECT received_at FROM events WHERE id >= ? ORDER BY id LIMIT 1), 'Z')"
        return str(self._read.read(query, (id,))[0][0])

    def _prune(
        self,
        table: str,
        before: str | None,
        max_bytes: int,
        even_undelivered: bool,
        report: Callable[[int], object] = lambda passed: None,
    ) -> tuple[int, int, int]:
        """Delete a table's oldest rows. Return how many there were, how many are held, and the last id that was due."""
        deleted = kept = due = 0
        for ids, held, passed, last in self._walk(table, before, even_undelivered):
            # With the condition again, since a destination may be added at any time.
            gone = delete_rows(
                self._written, table, ids, unless=_HELD[table], max_bytes=max_bytes, even_undelivered=even_undelivered
            )
            deleted, kept, due = deleted + gone, kept + held + len(ids) - gone, last
            if self.used_bytes() <= max_bytes:
                return deleted, 0, 0
            report(passed)
        return deleted, kept, due

    def _walk(
        self, table: str, before: str | None, even_undelivered: bool
    ) -> Iterator[tuple[list[int], int, int, int]]:
        """Yield chunks of the rows received before a time: ids to delete, number held, ids passed, last id.

        There is no index of times, and clocks step back. So it checks the time of each row, from the smallest id on.
        """
        cursor, last = self._read.read(f"SELECT coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM {table}")[0]
        while rows := self._read.read(
            f"""
            SELECT id, {_HELD[table]} FROM (
                SELECT id, received_at FROM {table}
                WHERE id > :cursor AND id <= :last ORDER BY id LIMIT {MAX_SKIPPED_ROWS}
            ) AS {table}
            WHERE :before IS NULL OR received_at < :before LIMIT {CHUNK_ROWS}
            """,
            {"cursor": cursor, "last": last, "before": before, "even_undelivered": even_undelivered},
        ):
            ids = [id for id, held in rows if not held]
            yield ids, len(rows) - len(ids), rows[-1][0] - cursor, rows[-1][0]
            cursor = rows[-1][0]
