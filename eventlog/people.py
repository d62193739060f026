"""Find and delete everything about a person, under all linked ids."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from re import Pattern
from typing import Any, NamedTuple

from .body_texts import BodyTexts
from .database import Tables
from .errors import NotPossible
from .mentions import Trait, compile_mentions
from .page_scrubbing import scrub
from .row_deletion import delete_rows

IDS_PER_QUERY = 50_000  # since the WAL grows for as long as a query runs
ROWS_PER_REPORT = 500
MAX_IDS_WITH_TRAIT = 100  # more are not one person's

Link = tuple[str | None, str | None, str | None]  # an event's userId, its anonymousId, and an alias's previousId

Report = Callable[[int], object]
Mentions = Callable[[bytes], object]


def _ignore(passed: int) -> None:
    """Report nothing."""


class Person(NamedTuple):
    """A person's ids, and the ids of the rows that carry one of them."""

    ids: dict[str, int]  # each with its distance in links from the ids that were asked for, or that have the trait
    shared: list[str]  # anonymousIds that events carry with this person's userIds and with others
    events: list[int]
    rejected: list[int]
    dead_letters: list[int]
    unread: list[int]  # rejections that cannot be decoded, so they may mention the person
    mentions: Pattern[bytes]  # finds one of the ids, or the trait, in a text


class People(Tables):
    """The people that the events are about. No index has their ids, so a search reads the whole log a few times."""

    def find(self, id: str, report: Report = _ignore) -> Person:
        """Return everything about the person with this id. Raise NotPossible for a blank id.

        Both ids of an alias are one person's. So are the userId and the anonymousId of an event, unless other events
        have that anonymousId with the userId of another person, as on a shared device. `report` is called with the
        number of rows passed since its last call; `estimate` returns about their total.
        """
        if not id.strip():
            raise NotPossible("A person's id is not blank")
        return self._find([id], None, report)

    def find_by_trait(self, trait: Trait, report: Report = _ignore) -> Person:
        """Return everything about the person with this trait, in an identify or in the context of any call.

        Its ids are the userIds of these events, and the anonymousIds of those without a userId. Of a shared device,
        only the events with the trait are the person's. Raises NotPossible if too many ids have the trait.
        """
        carriers = dict[str, dict[int, None]](events={}, dead_letters={})
        users, devices = set[str](), set[str]()
        for table, rows in carriers.items():
            for id, user, device in self._search_trait(table, trait, report):
                rows[id] = None
                if user:
                    users.add(user)
                elif device:
                    devices.add(device)
                if len(users | devices) > MAX_IDS_WITH_TRAIT:
                    some = ", ".join(sorted(users | devices)[:5])
                    raise NotPossible(
                        f"More than {MAX_IDS_WITH_TRAIT} ids have {trait.name}={trait.value}, too many for one person:"
                        f" {some}..."
                    )
        person = self._find(users | devices, trait, report)
        if shared := devices.intersection(person.shared):
            person = self._find((users | devices) - shared, trait, report)
        # Rows with the trait come last. So if deleting is interrupted, the rest can still be found by it.
        events, dead = carriers["events"], carriers["dead_letters"]
        return person._replace(
            events=[id for id in person.events if id not in events] + [*events],
            dead_letters=[id for id in person.dead_letters if id not in dead] + [*dead],
        )

    def _find(self, start: Collection[str], trait: Trait | None, report: Report) -> Person:
        """Return everything about the person with the ids in `start`."""
        ids, links, searched = dict.fromkeys(start, 0), set[Link](), set[str]()
        while missing := (ids.keys() | {device for user, device, _ in links if device and user in ids}) - searched:
            for table in ("events", "dead_letters"):
                links.update(self._search(table, "DISTINCT user_id, anonymous_id", missing, report))
            searched |= missing
            ids = _connect(start, links, searched)
        mentions = compile_mentions(ids, trait)
        rejected, unread = self._find_rejections(mentions.search, report)
        return Person(
            ids,
            sorted({device for user, device, _ in links if user and device and (user in ids) != (device in ids)}),
            self._find_rows("events", ids, report),
            rejected,
            self._find_rows("dead_letters", ids, report),
            unread,
            mentions,
        )

    def estimate(self, passes: int) -> int:
        """Return about how many rows a search passes that reads all events and dead letters `passes` times."""
        spans = [f"(SELECT coalesce(max(id) - min(id) + 1, 0) FROM {each})" for each in ("events", "dead_letters")]
        query = f"SELECT {passes} * ({' + '.join(spans)}) + (SELECT count(*) FROM rejected)"
        return int(self._read.read(query)[0][0])

    def estimate_forget(self, person: Person) -> int:
        """Return about how many rows and pages `forget` passes."""
        rows = len(person.events) + len(person.rejected) + len(person.dead_letters)
        return rows + int(self._read.read("PRAGMA page_count")[0][0])

    def forget(self, person: Person, report: Report = _ignore) -> None:
        """Delete everything about a person, and overwrite its bytes in the log's files.

        Raises Unavailable if it cannot finish. `find` with the same id then finds the rest. `report` is called with the
        number of rows and pages passed since its last call.
        """
        for table, ids in (
            ("dead_letters", person.dead_letters),
            ("rejected", person.rejected),
            ("events", person.events),
        ):
            for start in range(0, len(ids), ROWS_PER_REPORT):
                chunk = ids[start : start + ROWS_PER_REPORT]
                delete_rows(self._written, table, chunk)
                report(len(chunk))
        self._clear_errors(person.mentions.search)
        scrub(self._written.path, report)

    def _ranges(self, table: str, report: Report) -> Iterator[dict[str, int]]:
        """Yield the first and last id of each query that reads the table in parts."""
        ((start, last),) = self._read.read(f"SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM {table}")
        while start <= last:
            end = start + IDS_PER_QUERY - 1
            yield {"start": start, "end": end}
            # From row to row, since an import may leave gaps of any size between ids.
            ((following,),) = self._read.read(f"SELECT coalesce(min(id), ?) FROM {table} WHERE id > ?", (end + 1, end))
            report(min(following, last + 1) - start)
            start = following

    def _search_trait(self, table: str, trait: Trait, report: Report) -> Iterator[tuple[int, str | None, str | None]]:
        """Yield id, userId and anonymousId of all rows whose user has the trait, or an email as the userId.

        A group has traits of its own.
        """
        each_trait = f"""
            SELECT log.id, user_id, anonymous_id, CASE
                WHEN trait.type IN ('true', 'false') THEN trait.type
                WHEN trait.type = 'text' THEN trait.atom
                ELSE payload -> fullkey  -- a number as it is spelled
            END
            FROM {table} AS log, json_each(payload, '$.traits') AS trait
            WHERE log.id BETWEEN :start AND :end AND log.type <> 'group' AND trait.atom IS NOT NULL
            AND iif(:is_email, lower(trait.key), trait.key) = :name
        """
        in_context = each_trait.replace("'$.traits'", "'$.context.traits'").replace("log.type <> 'group'", "true")
        as_user = f"""
            SELECT id, user_id, anonymous_id, user_id FROM {table}
            WHERE id BETWEEN :start AND :end AND :is_email AND lower(user_id) = lower(:value)
        """
        for part in self._ranges(table, report):
            found = self._read.read(f"{each_trait} UNION {in_context} UNION {as_user}", part | trait._asdict())
            yield from {(id, user, device): None for id, user, device, value in found if trait.has(value)}

    def _search(self, table: str, columns: str, ids: Iterable[str], report: Report) -> Iterator[Any]:
        """Yield columns and previousId of all rows that carry one of the ids, or any number as previousId."""
        for part in self._ranges(table, report):
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
                {"ids": json.dumps(list(ids)), **part},
            ):
                # An import keeps a number as it is spelled. The id is the text that Python writes for it.
                yield (*others, json.dumps(json.loads(previous)) if is_number else previous)

    def _find_rows(self, table: str, ids: dict[str, int], report: Report) -> list[int]:
        """Return the rows that carry one of the ids, in the order to delete them.

        Rows that link two ids come last, and of these the most distant first. So if deleting is interrupted, the rest
        can still be found from the same id.
        """
        rows = []
        for id, *link in self._search(table, "id, user_id, anonymous_id", ids, report):
            distances = [ids[each] for each in link if each in ids]
            if distances:
                rows.append((max(distances), min(distances), id))
        return [id for _, _, id in sorted(rows, reverse=True)]

    def _find_rejections(self, mentions: Mentions, report: Report) -> tuple[list[int], list[int]]:
        """Return the rejections that mention the person, and those that cannot be decoded."""
        id, found, unread = 0, list[int](), list[int]()
        while rows := self._read.read("SELECT id, body FROM rejected WHERE id > ? ORDER BY id LIMIT 8", (id,)):
            for id, body in rows:
                texts = BodyTexts(body)
                if mentions(body) or any(map(mentions, texts)):
                    found.append(id)
                elif not texts.is_complete:
                    unread.append(id)
            report(len(rows))
        return found, unread

    def _clear_errors(self, mentions: Mentions) -> None:
        """Clear the last error of each destination where it mentions the person."""
        for name, error in self._read.read("SELECT name, last_error FROM destinations WHERE last_error IS NOT NULL"):
            if mentions(error.encode()):
                with self._written.transaction() as connection:
                    connection.execute("UPDATE destinations SET last_error = '-' WHERE name = ?", (name,))


def _connect(start: Collection[str], links: set[Link], searched: set[str]) -> dict[str, int]:
    """Return a person's ids with their distance in links. `links` has all links of the ids in `searched`."""
    users = defaultdict(set)
    for user, device, _ in links:
        if user and device:
            users[device].add(user)
    ids, distance = dict.fromkeys(start, 0), 0
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
