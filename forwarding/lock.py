"""Let only one forwarder at a time deliver to a destination.

The lock is a flock on a file next to the log, which the kernel releases when the process dies.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic

from eventlog import NotPossible
from eventlog.errors import explain
from eventlog.side_files import open_side_file
from eventlog.waiting import lock_file

TIMEOUT_SECONDS = 0.5  # `discard` holds a lock for a moment


@contextmanager
def exclusive(log_path: str, name: str) -> Iterator[None]:
    """Lock a destination for a forwarder. Raises NotPossible if another one has it, or if the file is not usable."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(log_path, name))
        except BlockingIOError:
            raise NotPossible(f"Another forwarder delivers to {name!r}") from None
        except OSError as failure:
            raise NotPossible(explain(log_path, failure)) from failure
        yield


@contextmanager
def locked(log_path: str, name: str, timeout: float = TIMEOUT_SECONDS) -> Iterator[None]:
    """Lock a destination. Raises BlockingIOError if another forwarder still has it after `timeout` seconds."""
    path, deadline = _path(log_path, name), monotonic() + timeout
    while True:
        file = open_side_file(log_path, path)
        try:
            lock_file(file, deadline)
            if _is_at(path, file):  # `discard` may have deleted it between open and lock
                yield
                return
        finally:
            os.close(file)


def discard(log_path: str, name: str) -> None:
    """Delete the lock file of a destination, unless a forwarder holds the lock."""
    with suppress(BlockingIOError), locked(log_path, name, timeout=0):
        os.unlink(_path(log_path, name))


def _path(log_path: str, name: str) -> str:
    return f"{log_path}-forward-{name}"


def _is_at(path: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
