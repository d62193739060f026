"""Locks between processes, on open files. The kernel releases those of a process that dies."""

import fcntl

from .waiting import retry_until


def lock_file(descriptor: int, deadline: float = 0.0) -> None:
    """Lock the file exclusively. Raise BlockingIOError if another process holds it until `deadline`."""
    retry_until(deadline, lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))


def share_lock(descriptor: int) -> None:
    """Lock the file together with other processes. Raise BlockingIOError if one holds it exclusively."""
    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def unlock_file(descriptor: int) -> None:
    """Release the lock. Closing the file does so too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
