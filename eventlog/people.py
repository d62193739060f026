"""Find and delete everything about a person, under all linked ids."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .body_texts import BodyTexts
from .database import Tables
from .errors import NotPossible
from .page_scrubbing import scrub
from .row_deletion import delete_rows

IDS_PER_QUERY = 50_000  # since the WAL grows for as long as a query runs

Link = tuple[str | None, str | None, str | None]  # an event's userId, its anonymousId, and an alias's previousId


class Person(NamedTuple):
    """A person's ids, and the ids of the rows that carry one of them."""

    ids: dict[str, int]  # each with its distance in links from the id that was asked for
    shared: list[str]  # anonymousIds that events carry with this person's userIds and with others
    events: list[int]
    rejected: list[int]
    dead_letters: list[int]
    unread: list[int]  # rejections that cannot be decoded, so they may mention the person


class People(Tables):
    """The people that the events are about. No index has their ids, so a search reads the whole log a few times."""

    def find(self, id: str) -> Person:
        """Return everything about the person with this id. Raise NotPossible for a blank id.

        Both ids of an alias are one person's. So are the userId and the anonymousId of an event, unless other events
        have that anonymousId with the userId of another person, as on a shared device.
        """
        if not id.strip():
            raise NotPossible("A person's id is not blank")
        ids, links, searched = {id: 0}, set[Link](), set[str]()
        while missing := (ids.keys() | {device for user, device, _ in links if device and user in ids}) - searched:
            for table in ("events", "dead_letters"):
                links.update(self._search(table, "DISTINCT user_id, anonymous_id", missing))
            searched |= missing
            ids = _connect(id, links, searched)
        rejected, unread = self._find_rejections(ids)
        return Person(
            ids,
            sorted({device for user, device, _ in links if user and device and (user in ids) != (device in ids)}),
            self._find_rows("events", ids),
            rejected,
            self._find_rows("dead_letters", ids),
            unread,
        )

    def forget(self, person: Person) -> None:
        """Delete everything about a person, and overwrite its bytes in the log's files.

        Raises Unavailable if it cannot finish. `find` with the same id then finds the rest.
        """
        delete_rows(self._written, "dead_letters", person.dead_letters)
        delete_rows(self._written, "rejected", person.rejected)
        delete_rows(self._written, "events", person.events)
        self._clear_errors(person.ids)
        scrub(self._written.path)

    def _search(self, table: str, columns: str, ids: Iterable[str]) -> Iterator[Any]:
        """Yield columns and previousId of all rows that carry one of the ids, or any number as previousId."""
        ((last,),) = self._read.read(f"SELECT coalesce(max(id), 0) FROM {table}")
        start = 0
        # From row to row, since an import may leave gaps of any size between ids.
        while rows := self._read.read(f"SELECT min(id) FROM {table} WHERE id >= ? HAVING min(id) <= ?", (start, last)):
            ((start,),) = rows
            for *others, previous, is_number in self._read.read(
                f"""
                WITH
                ids AS MATERIALIZED (SELECT value FROM json_each(:ids)),
                linked AS (
                    SELECT id, user_id, anonymous_id,
                           type = 'alias' AND json_type(payload, '$.previousId') IN ('integer', 'real') AS is_number,
                           CASE
                               WHEN type <> 'alias' THEN NULL
                               WHEN json_type(payload, '$.previousId') = 'text' THEN payload ->> '$.previousId'
                               ELSE payload -> '$.previousId'
                           END AS previous_id
                    FROM {table} WHERE id BETWEEN :start AND :end
                )
                SELECT {columns}, previous_id, is_number FROM linked
                WHERE user_id IN ids OR anonymous_id IN ids OR previous_id IN ids OR is_number
                """,
                {"ids": json.dumps(list(ids)), "start": start, "end": start + IDS_PER_QUERY - 1},
            ):
                # An import keeps a number as it is spelled. The id is the text that Python writes for it.
                yield (*others, json.dumps(json.loads(previous)) if is_number else previous)
            start += IDS_PER_QUERY

    def _find_rows(self, table: str, ids: dict[str, int]) -> list[int]:
        """Return the rows that carry one of the ids, in the order to delete them.

        Rows that link two ids come last, and of these the most distant first. So if deleting is interrupted, the rest
        can still be found from the same id.
        """
        rows = []
        for id, *link in self._search(table, "id, user_id, anonymous_id", ids):
            distances = [ids[each] for each in link if each in ids]
            if distances:
                rows.append((max(distances), min(distances), id))
        return [id for _, _, id in sorted(rows, reverse=True)]

    def _find_rejections(self, ids: Iterable[str]) -> tuple[list[int], list[int]]:
        """Return the rejections that mention one of the ids, and those that cannot be decoded."""
        mentions, found, unread = _pattern(ids).search, [], []
        id = 0
        while rows := self._read.read("SELECT id, body FROM rejected WHERE id > ? ORDER BY id LIMIT 8", (id,)):
            for id, body in rows:
                texts = BodyTexts(body)
                if mentions(body) or any(map(mentions, texts)):
                    found.append(id)
                elif not texts.is_complete:
                    unread.append(id)
        return found, unread

    def _clear_errors(self, ids: Iterable[str]) -> None:
        """Clear the last error of each destination where it mentions one of the ids."""
        mentions = _pattern(ids).search
        for name, error in self._read.read("SELECT name, last_error FROM destinations WHERE last_error IS NOT NULL"):
            if mentions(error.encode()):
                with self._written.transaction() as connection:
                    connection.execute("UPDATE destinations SET last_error = '-' WHERE name = ?", (name,))


def _connect(id: str, links: set[Link], searched: set[str]) -> dict[str, int]:
    """Return a person's ids with their distance in links. `links` has all links of the ids in `searched`."""
    users = defaultdict(set)
    for user, device, _ in links:
        if user and device:
            users[device].add(user)
    ids, distance = {id: 0}, 0
    while True:
        neighbours = set[str]()
        for user, device, previous in links:
            if user and previous and (user in ids or previous in ids):
                neighbours |= {user, previous}
            is_not_shared = device in ids and len(users[device]) == 1
            if user and device in searched and (is_not_shared or users[device] <= ids.keys()):
                neighbours |= {user, device}
        distance += 1
        if neighbours <= ids.keys():
            return ids
        ids |= dict.fromkeys(neighbours - ids.keys(), distance)


def _pattern(ids: Iterable[str]) -> re.Pattern[bytes]:
    """Return a pattern for the ids as whole words, in any spelling that JSON allows."""
    spellings = b"|".join(b"".join(map(_spellings, id)) for id in ids)
    return re.compile(rb"(?<!\w)(?:" + spellings + rb")(?!\w)")


def _spellings(character: str) -> bytes:
    units = character.encode("utf-16-be").hex()
    escapes = [rf"(?i:\\u{units[start : start + 4]})" for start in range(0, len(units), 4)]
    slashed = "" if character.isalnum() else r"\\?"
    return b"(?:" + slashed.encode() + re.escape(character.encode()) + b"|" + "".join(escapes).encode() + b")"
