"""The queue in which all processes that write to the log wait for their turn."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .side_files import open_side_file
from .waiting import lock_file


class WriteQueue:
    """A lock on a file next to the log. SQLite's own lock wakes waiting processes late and out of order.

    The lock is not on the log's own file, because closing a second descriptor of that drops SQLite's locks on it.
    """

    def __init__(self, log: str) -> None:
        self._log = log
        self._descriptor: int | None = None

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """Hold the lock until the block ends. Raise BlockingIOError if another process has it until `deadline`."""
        if self._descriptor is None:
            self._descriptor = open_side_file(self._log, self._log + "-queue", os.O_RDONLY)
        descriptor = self._descriptor
        lock_file(descriptor, deadline)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file. The next turn opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
