"""A copy of the log as of one moment, made while others write."""

import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from math import inf
from tempfile import TemporaryDirectory

import apsw

from .database import Database
from .errors import DiskFull, NotPossible, sqlite_errors
from .side_files import open_side_file, sync

STEP_PAGES = 1024  # of 4 KiB, copied between two syncs
TIME_FILE = "-backup-time"  # an empty file next to the log, last modified by the newest backup


def back_up(database: Database, target: str, report: Callable[[int, int], object]) -> int:
    """See EventLog.back_up."""
    target = os.path.abspath(target)
    for end in ("", "-wal", "-journal"):  # SQLite would use the latter two with the copy
        if os.path.lexists(target + end):
            raise NotPossible(f"{target}{end} exists already")
    if not os.path.isdir(os.path.dirname(target)):
        raise NotPossible(f"The folder {os.path.dirname(target)} does not exist. Create it first")
    try:
        with sqlite_errors(target), TemporaryDirectory(prefix=".backup-", dir=os.path.dirname(target)) as folder:
            unfinished = os.path.join(folder, "log")
            os.close(open_side_file(database.path, unfinished))  # SQLite would create it with the mode of the umask
            last = _copy(database, unfinished, target, report)
            _verify(unfinished, last)
            sync(unfinished)
            try:
                os.link(unfinished, target)
            except FileExistsError:
                raise NotPossible(f"{target} exists already") from None
            sync(os.path.dirname(target))
    except DiskFull:  # reading takes no room, so it is the disk of the copy
        raise NotPossible(f"The disk of {target} is full. Delete files there, or choose another disk") from None
    # The backup is valid even if its time cannot be noted; the metric then shows an older one.
    with suppress(OSError), os.fdopen(open_side_file(database.path, database.path + TIME_FILE)) as file:
        os.utime(file.fileno())
    return last


def backup_age(path: str) -> float:
    """See EventLog.backup_age."""
    try:
        return max(0.0, time.time() - os.path.getmtime(path + TIME_FILE))
    except OSError:
        return inf


def _copy(database: Database, path: str, target: str, report: Callable[[int, int], object]) -> int:
    """Copy the log to `path`. Return the id of its newest event. Errors of the copy name `target`.

    It reads in one transaction, because SQLite starts a backup again after another process commits.
    """
    with closing(apsw.Connection(path)) as copy:
        copy.pragma("synchronous", "off")
        with database.snapshot() as log:
            last = _last_id(log)
            with sqlite_errors(target), copy.backup("main", log, "main") as backup:
                while not backup.done:
                    backup.step(STEP_PAGES)
                    sync(path)  # one sync at the end would keep commits waiting for the disk
                    report(backup.page_count - backup.remaining, backup.page_count)
        copy.pragma("journal_mode", "delete")  # the copy is in WAL mode like the log, and should not need a -wal
    return last


def _verify(path: str, last: int) -> None:
    with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as copy:
        problems = [text for (text,) in copy.execute("PRAGMA integrity_check") if text != "ok"]
        if _last_id(copy) != last:
            problems.append(f"its last event is {_last_id(copy)} instead of {last}")
    if problems:
        raise NotPossible(f"The copy is broken and was deleted: {'; '.join(problems)}")


def _last_id(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM events").get)
