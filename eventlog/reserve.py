"""Keep room on the log's disk for the commands that make room, since to delete rows takes some itself.

The service creates a file next to the log, `-reserve`, and takes events only while the disk has room for what is yet to
be copied from the write-ahead log into the file. A command that deletes rows gives the reserve up where the disk is
full. From then on the service uses only the free pages of the log, until it can create the reserve again.
"""

import errno
import os
from contextlib import suppress

import apsw

from .database import Database
from .faults import DiskFull, Unavailable
from .side_files import open_side_file

MAX_BYTES = 32 * 1024 * 1024  # more than the write-ahead log has by the time it is copied
PAGE_BYTES = 4096
MAX_SHARE = 4  # of a small disk the reserve takes one part in so many


def require_room(connection: apsw.Connection, database: Database) -> None:
    """Raise DiskFull, before a transaction of `database` is committed, where no room to delete rows would be left."""
    path = database.path
    free, _ = _look_at_disk(path)
    has_reserve = size_of(path) > 0
    if has_reserve and free >= database.wal_pages * PAGE_BYTES + MAX_BYTES:
        return  # as nearly always; the exact figure takes longer
    growth = connection.pragma("page_count") * PAGE_BYTES - os.path.getsize(path)
    if growth > 0 and not (free >= growth if has_reserve else _is_created(path)):
        raise DiskFull(path)


def make_room(database: Database) -> None:
    """Give the reserve up if the disk is full, so that rows can be deleted; call it before each transaction.

    What the write-ahead log has is copied into the file, so that its own room is used again.
    """
    free, wanted = _look_at_disk(database.path)
    if free < wanted // 2:
        with suppress(FileNotFoundError):
            os.unlink(database.path + "-reserve")
        with suppress(Unavailable):
            database.checkpoint()


def size_of(path: str) -> int:
    """Return the bytes of the reserve of the log at `path`, or 0 once it is given up."""
    try:
        return os.path.getsize(path + "-reserve")
    except FileNotFoundError:
        return 0


def _is_created(path: str) -> bool:
    """Create the reserve if half as much is still free after it; tell whether the disk had the room."""
    free, wanted = _look_at_disk(path)
    if free < wanted + wanted // 2:
        return False
    try:
        descriptor = open_side_file(path, path + "-reserve")
        try:
            os.posix_fallocate(descriptor, 0, wanted)
        finally:
            os.close(descriptor)
    except OSError as failure:  # of a quota, or of a file system that cannot do this
        return failure.errno not in (errno.ENOSPC, errno.EDQUOT)
    return True


def _look_at_disk(path: str) -> tuple[int, int]:
    """Return the bytes that are free on the log's disk, and those that its reserve should have."""
    disk = os.statvfs(os.path.dirname(os.path.abspath(path)))
    return disk.f_bavail * disk.f_frsize, min(MAX_BYTES, disk.f_blocks * disk.f_frsize // MAX_SHARE)
