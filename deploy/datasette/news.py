"""Read what the live page shows: the newest events and rejections of a source."""

import json
import re
import sqlite3
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import guard
from body_faults import Fault, find_faults
from excerpts import Piece, make_excerpt, visible
from hiding import KeyHider

from errors import ApiError
from ingest.body import decode_form

MAX_EVENTS, MAX_REJECTIONS = 50, 25  # shown at once
EVENTS_BACK, REJECTIONS_BACK = 50_000, 10_000  # rows that are searched for those of a source; `source` has no index
MARKING_SECONDS = 1.0  # after which further bodies are neither decoded nor marked: a sender may make both slow
PAYLOAD_CHARACTERS = 2000  # shown of an event

#: The bodies are shown without keys. To find the keys in them, this page reads the keys, too.
COLUMNS = {
    **guard.VISIBLE_COLUMNS,
    "rejected": guard.VISIBLE_COLUMNS["rejected"] | {"message", "errors", "body"},
    "source_keys": guard.VISIBLE_COLUMNS["source_keys"] | {"id"},
}

OF_SOURCE = "(:source = '' OR source = :source)"
LAST_IDS = "SELECT coalesce((SELECT max(id) FROM events), 0), coalesce((SELECT max(id) FROM rejected), 0)"
SOURCES = "SELECT name FROM sources UNION SELECT source FROM counts ORDER BY 1"
COUNTS = f"""
    SELECT outcome, sum(count) AS count, max(last_at) AS last_at, code FROM counts
    WHERE outcome IN ('stored', 'duplicate', 'rejected') AND {OF_SOURCE} GROUP BY outcome
"""
EVENTS = f"""
    SELECT id, received_at, source, type, coalesce(user_id, anonymous_id) AS user, name,
        substr(payload, 1, {PAYLOAD_CHARACTERS}) AS payload, length(payload) > {PAYLOAD_CHARACTERS} AS is_cut
    FROM events WHERE id > :after AND {OF_SOURCE} ORDER BY id DESC LIMIT {MAX_EVENTS}
"""
REJECTIONS = f"""
    SELECT id, received_at, source, route, code, message, errors, body, cut, times_seen, became
    FROM rejected WHERE id > :after AND {OF_SOURCE} ORDER BY id DESC LIMIT {MAX_REJECTIONS}
"""
OLDER = f"SELECT count(*) FROM {{table}} WHERE id > :after AND id < :oldest AND {OF_SOURCE}"

SHOWN = ("id", "received_at", "source", "route", "code", "cut", "times_seen", "became")

#: What to do, for the codes whose message does not say it.
ADVICE = {
    "source_disabled": "Nothing else was checked. Enable the source, then replay the rejection.",
    "payload_too_large": "Send smaller batches.",
    "event_too_large": "The largest field is marked.",
    "id_required": "Send the id of a known user as userId, that of an unknown one as anonymousId.",
}


class Position(NamedTuple):
    """What a page has seen of the log. Each is -1 if it has seen nothing."""

    event: int  # the last id
    rejection: int  # the last id
    rejected: int  # the count of rejections, which a body that is rejected again increases too


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    guard.prepare(connection, COLUMNS)
    return connection


def read_news(connection: sqlite3.Connection, source: str, seen: Position) -> dict[str, Any]:
    """Return what a page shows of a source, or of all for "", beyond what it has shown already."""
    counts = {row["outcome"]: row for row in connection.execute(COUNTS, {"source": source})}
    rejected = counts["rejected"]["count"] if "rejected" in counts else 0
    last_event, last_rejection = connection.execute(LAST_IDS).fetchone()
    newest = {"source": source, "after": max(seen.event, last_event - EVENTS_BACK)}
    events = connection.execute(EVENTS, newest).fetchall()
    more_events = _count_older(connection, "events", newest, events) if seen.event >= 0 else 0
    rejections, more_rejections = [], 0
    if rejected != seen.rejected:  # read all that is shown, since some of it may have been rejected again
        newest = {"source": source, "after": last_rejection - REJECTIONS_BACK}
        rejections = connection.execute(REJECTIONS, newest).fetchall()
        newest["after"] = max(newest["after"], seen.rejection)
        more_rejections = _count_older(connection, "rejected", newest, rejections) if seen.rejection >= 0 else 0
    until = monotonic() + MARKING_SECONDS
    hider = KeyHider(id for (id,) in connection.execute("SELECT id FROM source_keys"))
    return {
        "source": source,
        "sources": [name for (name,) in connection.execute(SOURCES)],
        "counts": counts,
        "seen": Position(last_event, last_rejection, rejected),
        "events": [_describe_event(row) for row in events],
        "more_events": more_events,
        "rejections": [describe_rejection(row, hider.hide, monotonic() < until) for row in rejections],
        "more_rejections": more_rejections,
    }


def _count_older(connection: sqlite3.Connection, table: str, newest: dict[str, Any], rows: list[sqlite3.Row]) -> int:
    """Return how many rows of a source there are between an id that a page has seen and the oldest of `rows`."""
    if not rows:
        return 0
    return int(connection.execute(OLDER.format(table=table), {**newest, "oldest": rows[-1]["id"]}).fetchone()[0])


def _describe_event(row: sqlite3.Row) -> dict[str, Any]:
    return {name: visible(value) if isinstance(value, str) else value for name, value in dict(row).items()}


def describe_rejection(row: Mapping[str, Any], hide: Callable[[str], str], is_marked: bool = True) -> dict[str, Any]:
    """Return a rejection as the page shows it: its errors, what to do, and its body around the faults.

    Unless `is_marked`, the body is shown as it was sent, from its beginning.
    """
    content = row["body"]
    if is_marked:
        with suppress(ApiError):
            content = decode_form(content, True, lambda: None)
    content = content.removeprefix(BOM_UTF8)
    text = content.decode(errors="surrogateescape")
    errors = json.loads(row["errors"])
    faults = find_faults(content, text, row["code"], row["message"], errors) if is_marked else []
    excerpt = make_excerpt(text, faults, hide)
    if row["cut"]:
        excerpt.append(Piece("only the beginning of the body was kept", "gap"))
    if row["message"] not in [error["message"] for error in errors]:
        errors.insert(0, {"field": "", "message": row["message"]})
    return {
        **{name: row[name] for name in SHOWN},
        "size": len(row["body"]),
        "errors": [{name: visible(hide(error[name])) for name in ("field", "message")} for error in errors],
        "advice": ADVICE.get(row["code"]) or _advise_on_characters(row["code"], row["message"], text, faults),
        "excerpt": excerpt,
    }


def _advise_on_characters(code: str, message: str, text: str, faults: list[Fault]) -> str:
    """Return what to do about characters that are not seen, or not in UTF-8."""
    if code != "invalid_json" or not faults:
        return ""
    if "\0" in text[:4]:
        return "The body looks like UTF-16 or UTF-32. Send UTF-8."
    if found := re.search(r"the byte 0x(..) is not UTF-8", message):
        character = bytes.fromhex(found[1]).decode("cp1252", "replace")
        return f"In Latin-1, this byte is {character}. Convert the body to UTF-8 before you send it."
    character = text[faults[0].start : faults[0].start + 1]
    is_seen = character.isprintable() or character in "\n\t"
    return "" if is_seen else f"Remove the character {unicodedata.name(character, 'that cannot be seen')}."
