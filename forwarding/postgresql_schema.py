"""Create and check the tables of a PostgreSQL destination."""

import re
from importlib import resources

import psycopg
from psycopg import sql

from .delivery import RetryLater

#: The schema's history: each script leads from one version to the next.
MIGRATIONS = sorted(
    (each for each in resources.files(__package__).iterdir() if re.fullmatch(r"postgresql_\d+\.sql", each.name)),
    key=lambda script: int(re.sub(r"\D", "", script.name)),
)


def create(connection: psycopg.Connection, schema: str) -> None:
    """Create what the schema lacks, in a transaction whose search_path it is. Other processes that do so wait."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('tracklog'), hashtext(%s))", (schema,))
    # IF NOT EXISTS needs the right to create, even if the schema or table is there.
    if not connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,)).rowcount:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    if not connection.execute("SELECT WHERE to_regclass('tracklog_versions') IS NOT NULL").rowcount:
        connection.execute("CREATE TABLE tracklog_versions (version int PRIMARY KEY, created_at timestamptz)")
    for number, script in enumerate(MIGRATIONS[_version(connection) :], _version(connection) + 1):
        connection.execute(script.read_bytes())
        connection.execute("INSERT INTO tracklog_versions VALUES (%s, now())", (number,))


def check(connection: psycopg.Connection, schema: str) -> None:
    """Raise RetryLater unless events can be inserted there. Later versions only add, so they fit too."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise RetryLater(f"the database has the encoding {encoding}; it must be UTF8")
    try:
        version = _version(connection)
    except psycopg.errors.UndefinedTable:
        version = 0
    if version < len(MIGRATIONS):
        raise RetryLater(
            f"the schema {schema} has version {version} of the tables, and {len(MIGRATIONS)} is needed: "
            "`flask destinations set` creates it with --create"
        )


def _version(connection: psycopg.Connection) -> int:
    ((version,),) = connection.execute("SELECT coalesce(max(version), 0) FROM tracklog_versions")
    return int(version)
