"""The tables of a PostgreSQL destination: create them, check them, insert events.

Each function runs in a transaction whose search_path is the schema. The unique key of an event is its source and the
SHA-256 of its messageId, so a repeat changes nothing.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from importlib import resources

import psycopg
from psycopg import sql

from eventlog import StoredEvent

from .delivery import RetryLater

#: The schema's history: each script leads from one version to the next.
MIGRATIONS = sorted(
    (each for each in resources.files(__package__).iterdir() if re.fullmatch(r"postgresql_\d+\.sql", each.name)),
    key=lambda script: int(re.sub(r"\D", "", script.name)),
)

STAGE = """
CREATE TEMPORARY TABLE incoming (
    source text, message_id text, message_hash bytea, type text, user_id text, anonymous_id text, name text,
    timestamp timestamptz, received_at timestamptz, payload jsonb, payload_text text
) ON COMMIT DROP
"""
# Ids follow the order of the log. Rows are inserted in the order of their keys, so that two collectors that insert the
# same events wait for each other instead of forming a deadlock.
INSERT = """
INSERT INTO events (
    id, source, message_id, message_hash, type, user_id, anonymous_id, name, timestamp, received_at,
    payload, payload_text
)
SELECT * FROM (SELECT nextval('events_id_seq'), * FROM pg_temp.incoming) AS numbered
ORDER BY message_hash, source
ON CONFLICT (source, message_hash) DO NOTHING
"""
_JSON_NUL = re.compile(r"(?<!\\)((?:\\\\)*+)\\u0000")  # an even number of backslashes before it are escaped ones


def create(connection: psycopg.Connection, schema: str) -> None:
    """Create what the schema lacks. Other processes that do the same wait."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('tracklog'), hashtext(%s))", (schema,))
    # IF NOT EXISTS needs the right to create, even if the schema or table is there.
    if not connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,)).rowcount:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    if not connection.execute("SELECT WHERE to_regclass('tracklog_versions') IS NOT NULL").rowcount:
        connection.execute("CREATE TABLE tracklog_versions (version int PRIMARY KEY, created_at timestamptz)")
    for number, script in enumerate(MIGRATIONS[_version(connection) :], _version(connection) + 1):
        connection.execute(script.read_bytes())
        connection.execute("INSERT INTO tracklog_versions VALUES (%s, now())", (number,))


def insert(connection: psycopg.Connection, schema: str, events: Sequence[StoredEvent]) -> None:
    """Insert the events that are not there. Raises RetryLater if the tables do not fit."""
    _check(connection, schema)
    connection.execute(STAGE)
    with connection.cursor() as cursor, cursor.copy("COPY pg_temp.incoming FROM STDIN") as copy:
        for event in events:
            copy.write_row(_row(event))
    connection.execute(INSERT)


def _check(connection: psycopg.Connection, schema: str) -> None:
    """Raise RetryLater unless the database and its tables fit. Tables of a later version do, since it only adds."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise RetryLater(f"the database has the encoding {encoding}; it must be UTF8")
    try:
        version = _version(connection)
    except psycopg.errors.UndefinedTable:
        version = 0
    if version < len(MIGRATIONS):
        raise RetryLater(
            f"the schema {schema} has version {version} of the tables (0 if the role may not use it), and "
            f"{len(MIGRATIONS)} is needed: `tracklog destinations set` creates it with --create"
        )


def _version(connection: psycopg.Connection) -> int:
    ((version,),) = connection.execute("SELECT coalesce(max(version), 0) FROM tracklog_versions")
    return int(version)


def _row(event: StoredEvent) -> tuple[str | bytes | None, ...]:
    """Return a row of `incoming`, with U+FFFD for each NUL, which PostgreSQL cannot store."""
    source, message_id, *others = (text and text.replace("\0", "\ufffd") for text in event[1:-1])
    payload, exact = event.payload, None
    if "\\u0000" in payload and (replaced := _JSON_NUL.sub("\\1\ufffd", payload)) != payload:
        payload, exact = replaced, payload
    return source, message_id, sha256(event.message_id.encode()).digest(), *others, payload, exact
