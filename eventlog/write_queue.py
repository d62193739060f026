"""The queue in which all processes that write to the log wait for their turn."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .patience import patiently
from .side_files import open_side_file


class WriteQueue:
    """A lock on a file beside the log: SQLite's own lock wakes its waiters late and out of order.

    The file is not the log's own, because closing a second descriptor of that would drop SQLite's locks on it.
    """

    def __init__(self, path: str) -> None:
        self._log = path
        self._path = path + "-queue"
        self._descriptor: int | None = None

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """Hold the lock for the length of the block. Raise BlockingIOError if another has it until `deadline`."""
        if self._descriptor is None:
            self._descriptor = open_side_file(self._log, self._path, os.O_RDONLY)
        descriptor = self._descriptor
        patiently(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), deadline)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; the next turn opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
