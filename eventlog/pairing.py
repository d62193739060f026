"""Note which -wal and -shm belong to the log: SQLite goes by their names alone, and mixes what does not match."""

import json
import os
from contextlib import suppress
from typing import NamedTuple

from .side_files import open_side_file

NOTE_BYTES = 200  # at the beginning of the queue file

Identity = tuple[int, int] | None  # device and inode


class Files(NamedTuple):
    """The log's file and the two beside it that its connections share; None for one that is missing."""

    log: Identity = None
    wal: Identity = None
    shm: Identity = None


def files_at(path: str) -> Files:
    """Return the files that are at the path now."""
    return Files(_identity(path), _identity(path + "-wal"), _identity(path + "-shm"))


def _identity(path: str) -> Identity:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def note(path: str, files: Files) -> None:
    """Note on disk which files are in use. After a power cut, an older note would condemn a newer -wal."""
    with suppress(OSError):
        queue = open_side_file(path, path + "-queue")
        try:
            os.pwrite(queue, json.dumps(files).ljust(NOTE_BYTES).encode(), 0)
            os.fdatasync(queue)
        finally:
            os.close(queue)


def noted(path: str) -> Files:
    """Return what was noted last; nothing where there is no note."""
    try:
        with open(path + "-queue", "rb") as queue:
            log, wal, shm = (tuple(each) if each else None for each in json.loads(queue.read(NOTE_BYTES)))
    except (OSError, ValueError, TypeError):
        return Files()
    return Files(log, wal, shm)
