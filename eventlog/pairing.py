"""Which write-ahead log belongs to which file? SQLite goes by their names alone, and makes one broken log of two."""

import json
import os
from contextlib import suppress

from .side_files import open_side_file

NOTE = 200  # bytes at the beginning of the queue file

Identity = tuple[int, int] | None
Files = tuple[Identity, Identity]


def files_at(path: str) -> Files:
    """What is at the path, and the write-ahead log beside it, without which the latest events are nowhere."""
    return _identity(path), _identity(path + "-wal")


def _identity(path: str) -> Identity:
    """What tells the file at `path` from any other, or None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def note(path: str, files: Files) -> None:
    """Note for whoever opens the path next which file its -wal belongs to."""
    with suppress(OSError):
        queue = open_side_file(path, path + "-queue")
        try:
            os.pwrite(queue, json.dumps(files).ljust(NOTE).encode(), 0)
        finally:
            os.close(queue)


def check(path: str) -> None:
    """Raise BlockingIOError where the -wal is that of another file than the one beside it.

    Whoever has that file open puts it in order as soon as it is asked for something, so it is worth a second try.
    """
    file, wal = files_at(path)
    try:
        with open(path + "-queue") as queue:
            noted_file, noted_wal = map(_tupled, json.loads(queue.read(NOTE)))
    except (OSError, ValueError):
        return
    if wal is not None and wal == noted_wal and file != noted_file:
        raise BlockingIOError(
            f"{path}-wal belongs to the log that was here before. Restart whatever has that open, or move it after that"
        )


def _tupled(noted: list[int] | None) -> tuple[int, ...] | None:
    return tuple(noted) if noted else None
