"""Hide Source IDs, rejected bodies and destinations' keys from every SQL statement."""

import re
import sqlite3
from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import Any

#: The visible columns of the tables with secrets. SQLite returns NULL for every other column.
VISIBLE_COLUMNS = {
    "sources": {"name", "enabled", "created_at"},
    "source_keys": {"source", "created_at", "retired_at"},
    "rejected": {
        *("id", "source", "received_at", "route", "code", "cut", "times_seen", "replayed_at", "became"),
    },
    "destinations": {
        *("id", "name", "types", "sources", "paused", "position", "reserved", "delivered", "failures"),
        *("last_success_at", "last_error_at", "created_at", "held_to", "held_since", "refused_from", "resumed_at"),
        "event_rules",
    },
}

#: The tables that users' own statements may read. The shipped statements may read all tables.
PUBLIC_TABLES = ("events", "counts", "dead_letters", "sqlite_sequence")

_PRAGMAS = {
    *("database_list", "foreign_key_list", "function_list", "index_info", "index_list", "index_xinfo"),
    *("module_list", "page_count", "page_size", "schema_version", "table_info", "table_xinfo"),
}
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_OPENS_NO_FILE = {"OpenEphemeral", "OpenAutoindex", "OpenPseudo", "OpenDup", "SorterOpen", "IfNotOpen"}
_VIRTUAL = re.compile(r"json_(each|tree)|pragma_\w+")  # other modules expose pages, statements or indexes


def prepare(connection: sqlite3.Connection, visible: Mapping[str, Set[str]] = VISIBLE_COLUMNS) -> None:
    """Make a connection read-only, and hide the columns from it that are not visible in a table with secrets."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    # SQLite creates these tables on first use, with a statement that the authorizer would deny.
    for module in ("json_each('1')", "json_tree('1')", *(f"pragma_{name}" for name in _PRAGMAS)):
        connection.execute(f"SELECT 1 FROM {module}").fetchall()
    connection.set_authorizer(partial(_authorize, visible))


def _authorize(visible: Mapping[str, Set[str]], action: int, table: str | None, column: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        return sqlite3.SQLITE_OK if table in _PRAGMAS else sqlite3.SQLITE_DENY
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    is_secret = action == sqlite3.SQLITE_READ and column and column not in visible.get(table or "", {column})
    return sqlite3.SQLITE_IGNORE if is_secret else sqlite3.SQLITE_OK


def is_covered_by_authorizer(sql: str) -> bool:
    """Return whether SQLite asks the authorizer about every column that a statement reads.

    It does not ask about columns joined by USING or NATURAL.
    """
    return not re.search(r"\b(using|natural)\b", sql, re.IGNORECASE)


def check(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> None:
    """Raise sqlite3.OperationalError if a user's statement opens a table outside PUBLIC_TABLES.

    Inspects the compiled statement, which names the root page of each table and index that it opens.
    """
    if re.match(r"\s*explain\b", sql, re.IGNORECASE):
        return  # EXPLAIN shows the program without running it
    names = ", ".join("?" * len(PUBLIC_TABLES))
    query = f"SELECT rootpage FROM sqlite_master WHERE tbl_name IN ({names})"
    public_pages = {1, *(page for (page,) in connection.execute(query, PUBLIC_TABLES))}  # page 1 is the schema
    for _, operation, _, page, database, *_ in connection.execute(f"EXPLAIN {sql}", parameters).fetchall():
        if operation == "VOpen":
            is_open = not any(name in sql.lower() for name in _closed_modules(connection))
        elif operation in ("OpenRead", "ReopenIdx"):
            is_open = database == 0 and page in public_pages
        else:
            is_open = "open" not in operation.lower() or operation in _OPENS_NO_FILE
        if not is_open:
            raise sqlite3.OperationalError(
                f"Only {', '.join(PUBLIC_TABLES)} and the views can be queried. "
                "The other tables contain keys; use their pages and the ready-made queries"
            )


def _closed_modules(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the virtual tables that no statement may read. SQL cannot spell a name in another way."""
    modules = [name for (name,) in connection.execute("SELECT name FROM pragma_module_list")]
    return {*(name.lower() for name in modules if not _VIRTUAL.fullmatch(name)), "sqlite_dbpage", "dbstat"}
