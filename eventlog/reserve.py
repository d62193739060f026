"""Reserved room on the log's disk for deleting rows, which itself takes some.

The service creates a file next to the log, `-reserve`. It accepts events only while the disk has room for the pages
that are still to be copied from the WAL into the file. If the disk is full, a command that deletes rows deletes the
reserve first. From then on the service uses only free pages of the log, until it can create the reserve again.
"""

import errno
import os
from contextlib import suppress

import apsw

from .checkpoint import checkpoint
from .database import Database
from .errors import DiskFull, Unavailable
from .side_files import open_side_file, size_of

MAX_BYTES = 32 * 1024 * 1024  # more than the WAL usually has when a checkpoint is done
PAGE_BYTES = 4096
MIN_DISK_RATIO = 4  # a small disk is at least this many times as large as its reserve


def require_room(connection: apsw.Connection, database: Database) -> None:
    """Raise DiskFull if committing this transaction of `database` would leave no room to delete rows."""
    path = database.path
    free, wanted = _measure_disk(path)
    has_reserve = size_of(path + "-reserve") > 0
    if has_reserve and free >= database.wal_pages * PAGE_BYTES + MAX_BYTES:
        return  # the usual case; the exact figure takes longer
    growth = connection.pragma("page_count") * PAGE_BYTES - os.path.getsize(path)
    if growth > 0 and not (free >= growth if has_reserve else _create(path, free, wanted)):
        raise DiskFull(f"The disk of {path} is full")


def make_room(database: Database) -> None:
    """Delete the reserve if the disk is full, so that rows can be deleted. Call it before each transaction.

    A checkpoint then lets the WAL be used from its start again, so that it does not grow.
    """
    free, wanted = _measure_disk(database.path)
    if free < wanted // 2:
        with suppress(FileNotFoundError):
            os.unlink(database.path + "-reserve")
        with suppress(Unavailable):
            checkpoint(database)


def _create(path: str, free: int, wanted: int) -> bool:
    """Create the reserve if half its size stays free next to it. Return False if the disk has too little room."""
    if free < wanted + wanted // 2:
        return False
    try:
        with os.fdopen(open_side_file(path, path + "-reserve"), "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, wanted)
    except OSError as failure:  # a quota's error counts; a file system that cannot reserve needs no reserve
        return failure.errno not in (errno.ENOSPC, errno.EDQUOT)
    return True


def _measure_disk(path: str) -> tuple[int, int]:
    """Return the free bytes of the log's disk, and the bytes that its reserve should have."""
    disk = os.statvfs(os.path.dirname(path))
    return disk.f_bavail * disk.f_frsize, min(MAX_BYTES, disk.f_blocks * disk.f_frsize // MIN_DISK_RATIO)
