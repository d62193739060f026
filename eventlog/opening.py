"""Open a log's file: create it, check that it is one, migrate it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from time import monotonic

import apsw

from . import surroundings
from .faults import Unavailable, Unusable, sqlite_errors
from .patience import PATIENCE, patiently
from .shared_files import shared_files
from .write_queue import WriteQueue

APPLICATION_ID = 0x746C6F67  # "tlog", as file(1) and PRAGMA application_id show it

_SCRIPTS = resources.files(f"{__package__}.migrations")

#: The schema's history in order: each script leads from one version to the next. Migrations only add,
#: so that workers of the version before can go on writing while the new ones start.
MIGRATIONS = tuple(sorted(each.name for each in _SCRIPTS.iterdir() if each.name.endswith(".sql")))


def connect(path: str) -> apsw.Connection:
    """Open the log at `path` for reading and writing; raise Unusable if it is not one of this version.

    SQLite's own errors are the caller's to translate: one that is busy is worth a second try.
    """
    connection = _open(path)
    with _closed_on_error(connection):
        version = _version(connection, path)
        if version < len(MIGRATIONS):
            raise Unusable(
                f"{path} has schema version {version}, this is {len(MIGRATIONS)}. Restart tracklog to migrate it"
            )
    return connection


def can_write(connection: apsw.Connection) -> bool:
    """Tell whether SQLite has opened all the files for writing; where it could not, it has opened them for reading."""
    try:
        connection.execute("BEGIN IMMEDIATE")  # looks at the -wal and the -shm, but not at the file itself
        connection.execute("ROLLBACK")
    except apsw.ReadOnlyError:
        return False
    except apsw.BusyError:
        pass
    return not connection.readonly("main")


def migrate(path: str) -> None:
    """Bring the log at `path` to this version's schema; raise Unusable if there is none, or none can be kept there."""
    surroundings.check(path)
    with sqlite_errors(path):
        require(path)
        _migrate(os.path.realpath(path), may_create=False)


def create(path: str) -> None:
    """Make a log at `path` if there is none, and migrate the one that is there; raise Unusable where none can be."""
    surroundings.check(path)
    with sqlite_errors(path):
        _migrate(os.path.realpath(path), may_create=True)


def require(path: str) -> None:
    """Raise Unusable if there is no file at `path`."""
    if not os.path.exists(path):
        raise Unusable(
            f"There is no log at {path}. If it was moved, move it back; create one with: flask sources add NAME"
        )


def _open(path: str) -> apsw.Connection:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    with _closed_on_error(connection):
        # A new log and a restored backup are not in WAL mode yet.
        if connection.pragma("journal_mode", "wal") != "wal":
            raise Unavailable(f"{path} cannot be brought into WAL mode")
        connection.pragma("synchronous", "full")
        connection.pragma("secure_delete", True)
        connection.pragma("cache_size", -64 * 1024)  # KiB
        # Well above the WAL's steady size: one that is cut short has to grow again, and a commit takes twice as long.
        connection.pragma("journal_size_limit", 128 * 1024 * 1024)
    return connection


@contextmanager
def _closed_on_error(connection: apsw.Connection) -> Iterator[None]:
    """Close a connection that failed at once, since those that come after it share what it has opened."""
    try:
        yield
    except BaseException:
        connection.close(True)
        raise


def _is_blank(connection: apsw.Connection) -> bool:
    return connection.pragma("application_id") == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchall()


def _version(connection: apsw.Connection, path: str) -> int:
    """The schema version of a log; raises Unusable for any other file."""
    if connection.pragma("application_id") != APPLICATION_ID:
        raise Unusable(
            f"{path} is not a tracklog log; TRACKLOG_DATABASE must name one, or a file that does not exist yet"
        )
    version: int = connection.pragma("user_version")
    if version > len(MIGRATIONS):
        raise Unusable(
            f"{path} was written by a newer tracklog (schema {version}, this is {len(MIGRATIONS)}). Upgrade tracklog"
        )
    return version


def _migrate(path: str, may_create: bool) -> None:
    deadline = monotonic() + PATIENCE
    files, queue = shared_files(path), WriteQueue(path)

    def attempt() -> None:
        files.close_if_moved()
        with queue.turn(deadline):
            if may_create:
                files.create()
            connection = files.open(lambda: _open(path))
            try:
                _run_scripts(connection, path)
            finally:
                files.close(connection)

    try:
        patiently(attempt, deadline)
    finally:
        queue.close()


def _run_scripts(connection: apsw.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    version = 0 if _is_blank(connection) else _version(connection, path)
    for script in MIGRATIONS[version:]:
        connection.execute(_SCRIPTS.joinpath(script).read_text())
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", len(MIGRATIONS))
    connection.execute("COMMIT")
