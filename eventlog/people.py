"""Forget a person: all that has one of his ids, with those that the log ties to the one that is known."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any, NamedTuple

from .database import Database
from .erasing import erase
from .faults import NotPossible
from .patience import PATIENCE
from .readings import Readings
from .removal import remove

STRETCH = 50_000  # ids that are looked through at a time, since a snapshot that is held long lets the -wal grow

Tie = tuple[str | None, str | None, str | None]  # an event's userId, its anonymousId, and an alias's previousId


class Person(NamedTuple):
    """What the log has of a person."""

    ids: dict[str, int]  # each with how many ties it is away from the one that was asked for
    shared: list[str]  # anonymousIds that were seen with this person and with others
    events: list[int]
    rejected: list[int]
    dead_letters: list[int]
    unread: list[int]  # refused bodies of which nobody can tell whether they mention the person


class People:
    """Whom the events are of. There is no index for that: to find a person, all of the log is read a few times."""

    def __init__(self, read: Database, written: Database) -> None:
        self._read = read
        self._written = written

    def find(self, id: str) -> Person:
        """Return what is of the person with this id.

        Both ids of an alias are one person's. So are the userId and the anonymousId of an event, unless that
        anonymousId was seen with a userId of somebody else too, as on a device that people share.
        """
        if not id.strip():
            raise NotPossible("Nobody has a blank id")
        ids, ties, asked = {id: 0}, set[Tie](), set[str]()
        while unasked := (ids.keys() | {device for user, device, _ in ties if device and user in ids}) - asked:
            for table in ("events", "dead_letters"):
                ties.update(self._search(table, "DISTINCT user_id, anonymous_id", unasked))
            asked |= unasked
            ids = _joined(id, ties, asked)
        rejected, unread = self._mentioned(ids)
        return Person(
            ids,
            sorted({device for user, device, _ in ties if user and device and (user in ids) != (device in ids)}),
            self._rows("events", ids),
            rejected,
            self._rows("dead_letters", ids),
            unread,
        )

    def forget(self, person: Person) -> None:
        """Return when all of it has gone, and no byte of it is left in the log's files.

        Raises Unavailable where something is in the way; what is left can then be found and forgotten once more.
        """
        remove(self._written, "dead_letters", person.dead_letters)
        remove(self._written, "rejected", person.rejected)
        remove(self._written, "events", person.events)
        self._clear_errors(person.ids)
        erase(self._written.path)

    def _search(self, table: str, columns: str, ids: Iterable[str]) -> Iterator[Any]:
        """Yield these columns, and an alias's previousId, of all rows that have one of the ids, and of some others."""
        ((last,),) = self._read.read(f"SELECT coalesce(max(id), 0) FROM {table}")
        start = 0
        # From row to row, since an import may leave a gap of any size between ids.
        while rows := self._read.read(f"SELECT min(id) FROM {table} WHERE id >= ? HAVING min(id) <= ?", (start, last)):
            ((start,),) = rows
            for *others, previous, is_number in self._read.read(
                f"""
                WITH
                ids AS MATERIALIZED (SELECT value FROM json_each(:ids)),
                tied AS (
                    SELECT id, user_id, anonymous_id,
                           type = 'alias' AND json_type(payload, '$.previousId') IN ('integer', 'real') AS is_number,
                           CASE
                               WHEN type <> 'alias' THEN NULL
                               WHEN json_type(payload, '$.previousId') = 'text' THEN payload ->> '$.previousId'
                               ELSE payload -> '$.previousId'
                           END AS previous_id
                    FROM {table} WHERE id BETWEEN :start AND :end
                )
                SELECT {columns}, previous_id, is_number FROM tied
                WHERE user_id IN ids OR anonymous_id IN ids OR previous_id IN ids OR is_number
                """,
                {"ids": json.dumps(list(ids)), "start": start, "end": start + STRETCH - 1},
            ):
                # An import keeps a number as it is spelled; as an id, it is the text that Python writes for it.
                yield (*others, json.dumps(json.loads(previous)) if is_number else previous)
            start += STRETCH

    def _rows(self, table: str, ids: dict[str, int]) -> list[int]:
        """Return which rows have one of the ids: what ties the ids together comes last, the outermost ties first.

        Whoever is interrupted at removing them in this order finds the rest from where he began.
        """
        rows = []
        for id, *tie in self._search(table, "id, user_id, anonymous_id", ids):
            distances = [ids[each] for each in tie if each in ids]
            if distances:
                rows.append((max(distances), min(distances), id))
        return [id for _, _, id in sorted(rows, reverse=True)]

    def _mentioned(self, ids: Iterable[str]) -> tuple[list[int], list[int]]:
        """Return the refused bodies that mention an id, and those that cannot be read to their end."""
        mentions, found, unread = _pattern(ids).search, [], []
        for id, body in self._rejected():
            readings = Readings(body)
            if mentions(body) or any(map(mentions, readings)):
                found.append(id)
            elif not readings.is_whole:
                unread.append(id)
        return found, unread

    def _rejected(self) -> Iterator[tuple[int, bytes]]:
        cursor = 0
        while rows := self._read.read("SELECT id, body FROM rejected WHERE id > ? ORDER BY id LIMIT 8", (cursor,)):
            yield from rows
            cursor = rows[-1][0]

    def _clear_errors(self, ids: Iterable[str]) -> None:
        """Clear what destinations have answered where that mentions an id."""
        mentions = _pattern(ids).search
        for name, error in self._read.read("SELECT name, last_error FROM destinations WHERE last_error IS NOT NULL"):
            if mentions(error.encode()):
                with self._written.transaction(monotonic() + PATIENCE) as connection:
                    connection.execute("UPDATE destinations SET last_error = '-' WHERE name = ?", (name,))


def _joined(id: str, ties: set[Tie], asked: set[str]) -> dict[str, int]:
    """Return the ids of one person, with how many ties each is away; `ties` has all those of the ids `asked` for."""
    users = defaultdict(set)
    for user, device, _ in ties:
        if user and device:
            users[device].add(user)
    ids, distance = {id: 0}, 0
    while True:
        near = set[str]()
        for user, device, previous in ties:
            if user and previous and (user in ids or previous in ids):
                near |= {user, previous}
            is_the_only_one = device in ids and len(users[device]) == 1
            if user and device in asked and (is_the_only_one or users[device] <= ids.keys()):
                near |= {user, device}
        distance += 1
        if near <= ids.keys():
            return ids
        ids |= dict.fromkeys(near - ids.keys(), distance)


def _pattern(ids: Iterable[str]) -> re.Pattern[bytes]:
    """Match any of the ids, however JSON may be written, but not as a part of a longer word."""
    spellings = b"|".join(b"".join(map(_spelled, id)) for id in ids)
    return re.compile(rb"(?<!\w)(?:" + spellings + rb")(?!\w)")


def _spelled(character: str) -> bytes:
    units = character.encode("utf-16-be").hex()
    escapes = [rf"(?i:\\u{units[start : start + 4]})" for start in range(0, len(units), 4)]
    slashed = "" if character.isalnum() else r"\\?"
    return b"(?:" + slashed.encode() + re.escape(character.encode()) + b"|" + "".join(escapes).encode() + b")"
