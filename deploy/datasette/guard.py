"""Keep Source IDs, refused bodies and the keys of destinations out of reach of every SQL statement."""

import re
import sqlite3

#: The columns that are shown of the tables that hold secrets. SQLite reads NULL in place of any other.
SHOWN = {
    "sources": {"name", "enabled", "created_at"},
    "rejected": {
        *("id", "source", "received_at", "route", "code", "cut", "times_seen", "replayed_at", "became"),
    },
    "destinations": {
        *("id", "name", "types", "sources", "paused", "position", "reserved", "delivered", "failures"),
        *("last_success_at", "last_error_at", "created_at"),
    },
}

#: The tables that a statement may read when it is not one of the page's own.
OPEN_TO_ALL = ("events", "counts", "dead_letters", "sqlite_sequence")

_PRAGMAS = {
    *("database_list", "foreign_key_list", "function_list", "index_info", "index_list", "index_xinfo"),
    *("module_list", "page_count", "page_size", "schema_version", "table_info", "table_xinfo"),
}
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_OPENS_NO_FILE = {"OpenEphemeral", "OpenAutoindex", "OpenPseudo", "OpenDup", "SorterOpen", "IfNotOpen"}
_VIRTUAL = re.compile(r"json_(each|tree)|pragma_\w+")  # the others read pages, statements or indexes


def prepare(connection):
    """Let a connection only read, and read NULL in place of secret columns."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    # SQLite makes these tables at their first use, by a statement that the authorizer would refuse.
    for module in ("json_each('1')", "json_tree('1')", *(f"pragma_{name}" for name in _PRAGMAS)):
        connection.execute(f"SELECT 1 FROM {module}").fetchall()
    connection.set_authorizer(_authorize)


def _authorize(action, table, column, database, view):
    if action == sqlite3.SQLITE_PRAGMA:
        return sqlite3.SQLITE_OK if table in _PRAGMAS else sqlite3.SQLITE_DENY
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    is_secret = action == sqlite3.SQLITE_READ and column and column not in SHOWN.get(table, {column})
    return sqlite3.SQLITE_IGNORE if is_secret else sqlite3.SQLITE_OK


def is_safe_if_own(sql):
    """Tell whether the authorizer sees all that one of the page's own statements reads.

    SQLite does not ask it about a column that USING or NATURAL joins.
    """
    return not re.search("using|natural", sql, re.IGNORECASE)


def check(connection, sql, parameters=()):
    """Raise sqlite3.OperationalError unless a person's statement opens only the tables in OPEN_TO_ALL.

    This reads the statement's compiled program, which names the root page of each table and index that it opens.
    """
    if re.match(r"\s*explain\b", sql, re.IGNORECASE):
        return  # it shows a program, and does not run it
    names = ", ".join("?" * len(OPEN_TO_ALL))
    query = f"SELECT rootpage FROM sqlite_master WHERE tbl_name IN ({names})"
    open_to_all = {1, *(page for (page,) in connection.execute(query, OPEN_TO_ALL))}  # 1 holds the schema
    for _, operation, _, page, database, *_ in connection.execute(f"EXPLAIN {sql}", parameters).fetchall():
        if operation == "VOpen":
            is_open = not any(name in sql.lower() for name in _closed_modules(connection))
        elif operation in ("OpenRead", "ReopenIdx"):
            is_open = database == 0 and page in open_to_all
        else:
            is_open = "open" not in operation.lower() or operation in _OPENS_NO_FILE
        if not is_open:
            raise sqlite3.OperationalError(
                f"Only {', '.join(OPEN_TO_ALL)} and the views can be queried. "
                "Other tables hold keys: see their pages and the ready queries"
            )


def _closed_modules(connection):
    """Return the names of the virtual tables that no statement may read; SQL has no other way to spell a name."""
    modules = [name for (name,) in connection.execute("SELECT name FROM pragma_module_list")]
    return {*(name.lower() for name in modules if not _VIRTUAL.fullmatch(name)), "sqlite_dbpage", "dbstat"}
