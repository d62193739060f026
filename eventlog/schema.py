"""The log's schema: its migrations, and connections that require its version."""

import os
from contextlib import closing
from importlib import resources
from time import monotonic

import apsw

from . import host_checks
from .errors import Missing, Unavailable, Unusable, sqlite_errors
from .shared_files import shared_files
from .waiting import WAIT_SECONDS, WriteQueue, retry_until

APPLICATION_ID = 0x746C6F67  # "tlog", as file(1) and PRAGMA application_id show it

_SCRIPTS = resources.files(f"{__package__}.migrations")

#: The schema's history in order: each script leads from one version to the next. After each, workers of the version
#: before can still write, because they go on while the new ones start.
MIGRATIONS = tuple(sorted(each.name for each in _SCRIPTS.iterdir() if each.name.endswith(".sql")))


def connect(path: str, *, is_migrated: bool = True) -> apsw.Connection:
    """Open the log at `path` for reading and writing. If it `is_migrated`, raise Unusable unless it has this version.

    Raises SQLite's own errors too, so that the caller can retry while the file is locked.
    """
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # A new log and a restored backup are not in WAL mode yet.
        if connection.pragma("journal_mode", "wal") != "wal":
            raise Unavailable(f"{path} cannot be switched to WAL mode")
        connection.pragma("synchronous", "full")
        connection.pragma("secure_delete", True)
        connection.pragma("cache_size", -64 * 1024)  # KiB
        # Well above the WAL's usual size: after it was truncated, it has to grow again, which doubles a commit's time.
        connection.pragma("journal_size_limit", 128 * 1024 * 1024)  # bytes
        if is_migrated and (version := _version(connection, path)) < len(MIGRATIONS):
            raise Unusable(
                f"{path} has schema version {version}, this is {len(MIGRATIONS)}. Restart tracklog to migrate it"
            )
    except BaseException:
        connection.close(True)  # at once, since later connections would share its files
        raise
    return connection


def can_write(connection: apsw.Connection) -> bool:
    """Return True if SQLite has opened all files for writing. If it cannot, it opens them for reading only."""
    try:
        connection.execute("BEGIN IMMEDIATE")  # checks the -wal and the -shm, but not the file itself
        connection.execute("ROLLBACK")
    except apsw.ReadOnlyError:
        return False
    except apsw.BusyError:
        pass
    return not connection.readonly("main")


def migrate(path: str) -> None:
    """Migrate the log at `path` to this version's schema. Raise Unusable if there is none, or it cannot be used."""
    _migrate(path, may_create=False)


def create(path: str) -> None:
    """Create a log at `path`, or migrate the one that is there. Raise Unusable if it cannot be used."""
    _migrate(path, may_create=True)


def require_file(path: str) -> None:
    """Raise Missing if there is no file at `path`."""
    if not os.path.exists(path):
        raise Missing(f"There is no log at {path}")


def _version(connection: apsw.Connection, path: str) -> int:
    """Return the schema version of a log. Raise Unusable if the file is not a log, or one of a newer version."""
    if connection.pragma("application_id") != APPLICATION_ID:
        raise Unusable(
            f"{path} is not a tracklog log. TRACKLOG_DATABASE must name one, or a file that does not exist yet"
        )
    version: int = connection.pragma("user_version")
    if version > len(MIGRATIONS):
        raise Unusable(
            f"{path} was written by a newer tracklog (schema {version}, this is {len(MIGRATIONS)}). Upgrade tracklog"
        )
    return version


def _migrate(path: str, may_create: bool) -> None:
    host_checks.check(path)
    path, deadline = os.path.realpath(path), monotonic() + WAIT_SECONDS
    files, queue = shared_files(path), WriteQueue(path)

    def attempt() -> None:
        files.close_if_moved()
        with queue.turn(deadline):
            if may_create:
                files.create()
            connection = files.open(lambda: connect(path, is_migrated=False))
            try:
                _run_scripts(connection, path)
            finally:
                files.close(connection)

    with sqlite_errors(path), closing(queue):
        if not may_create:
            require_file(path)
        retry_until(deadline, attempt)


def _run_scripts(connection: apsw.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    has_tables = connection.execute("SELECT count(*) FROM sqlite_schema").get > 0
    version = _version(connection, path) if has_tables or connection.pragma("application_id") else 0
    for script in MIGRATIONS[version:]:
        connection.execute(_SCRIPTS.joinpath(script).read_text())
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", len(MIGRATIONS))
    connection.execute("COMMIT")
