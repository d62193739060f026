"""Let one forwarder at a time deliver to a destination, by a lock that the kernel takes back from a dead process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from eventlog.file_lock import lock_file
from eventlog.side_files import open_side_file

PATIENCE = 0.5  # seconds, since `discard` takes a lock for a moment


@contextmanager
def held(log_path: str, name: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock file of a destination, beside the log; raise BlockingIOError if another forwarder holds it."""
    path, deadline = _path(log_path, name), monotonic() + patience
    while True:
        file = open_side_file(log_path, path)
        try:
            lock_file(file, deadline)
            if _is_at(path, file):  # it may have been discarded between the opening and the locking
                yield
                return
        finally:
            os.close(file)


def discard(log_path: str, name: str) -> None:
    """Delete the lock file of a destination, unless a forwarder holds it."""
    with suppress(BlockingIOError), held(log_path, name, patience=0):
        os.unlink(_path(log_path, name))


def _path(log_path: str, name: str) -> str:
    return f"{log_path}-forward-{name}"


def _is_at(path: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
