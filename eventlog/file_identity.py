"""The identity of the log's three files, and a note of it on disk.

SQLite finds the -wal and the -shm by their names, and would mix those of two logs.
"""

import json
import os
from contextlib import suppress
from typing import NamedTuple

from .side_files import open_side_file

NOTE_BYTES = 200  # at the beginning of the queue file

Identity = tuple[int, int] | None  # device and inode


class Files(NamedTuple):
    """The log's file, and the -wal and -shm that its connections share. None stands for a missing file."""

    log: Identity = None
    wal: Identity = None
    shm: Identity = None


def find_files(path: str) -> Files:
    """Return the files that are at the path now."""
    return Files(_identity(path), _identity(path + "-wal"), _identity(path + "-shm"))


def _identity(path: str) -> Identity:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def write_note(path: str, files: Files) -> None:
    """Note on disk which files are in use. Sync it: after a power cut, an older note would reject a newer -wal."""
    with suppress(OSError), os.fdopen(open_side_file(path, path + "-queue"), "r+b", buffering=0) as queue:
        queue.write(json.dumps(files).ljust(NOTE_BYTES).encode())
        os.fdatasync(queue.fileno())


def read_note(path: str) -> Files:
    """Return the files in the latest note, or no files if there is no note."""
    try:
        with open(path + "-queue", "rb") as queue:
            return Files(*(tuple(each) if each else None for each in json.loads(queue.read(NOTE_BYTES))))
    except (OSError, ValueError, TypeError):
        return Files()
