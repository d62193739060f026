"""Write the SQL that deletes a person's events from a PostgreSQL destination. Needs no package."""

from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

DEFAULT_SCHEMA = "tracklog"


def write_deletion(url: str, ids: Iterable[str]) -> str:
    """Return the DELETE for all events that carry one of the ids. It has printable characters only."""
    schema = dict(parse_qsl(urlsplit(url).query)).get("schema", DEFAULT_SCHEMA)
    listed = ", ".join(map(quote_text, ids))
    table = '"' + schema.replace('"', '""') + '".events'
    return (
        f"DELETE FROM {table} WHERE user_id IN ({listed}) OR anonymous_id IN ({listed})"
        f" OR (type = 'alias' AND payload ->> 'previousId' IN ({listed}));"
    )


def quote_text(text: str) -> str:
    """Return a text as a constant of PostgreSQL, whatever `standard_conforming_strings` is there."""
    if text.isprintable() and "\\" not in text:
        return "'" + text.replace("'", "''") + "'"
    return "E'" + "".join(map(_escape, text)) + "'"


def _escape(character: str) -> str:
    if character in "'\\":
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
