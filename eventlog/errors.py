"""The errors that the log raises, and the translation of SQLite's errors into them."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import apsw

from .access import why_denied

#: Errors that the row itself causes. All others that SQLite reports are about the file, the disk or a lock.
ROW_ERRORS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)  # in the process, on the machine
LOG_DESCRIPTORS = 4  # that opening a log takes: the file, its -wal, its -shm, its folder


class Unavailable(Exception):
    """The log cannot be read or written now. The same attempt may succeed later."""


class DiskFull(Unavailable):
    """The disk of the log has no room for more."""


class Damaged(Unavailable):
    """SQLite found an error in the log's file."""


class Unusable(Unavailable):
    """The file at the path cannot be used as the log. The message says what to do about it."""


class Missing(Unusable):
    """There is no file at the path."""


class NotPossible(Exception):
    """The request contradicts what is in the log, or names something that is not. The message says what."""


@contextmanager
def sqlite_errors(path: str) -> Iterator[None]:
    """Translate errors of SQLite and the system about the log at `path` into Unavailable. Row errors pass."""
    try:
        yield
    except ROW_ERRORS:
        raise
    except apsw.NotADBError as error:
        raise Unusable(f"{path} is not a SQLite database. TRACKLOG_DATABASE must name a tracklog log") from error
    except apsw.CorruptError as error:
        raise Damaged(f"{path} is damaged ({error})") from error
    except (apsw.Error, OSError) as error:
        if _is_full(error):
            raise DiskFull(f"The disk of {path} is full") from error
        raise Unavailable(explain(path, error)) from error


def _is_full(error: Exception) -> bool:
    is_shm = getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE  # SQLite has no FullError for it
    return isinstance(error, apsw.FullError) or is_shm or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def explain(path: str, error: Exception) -> str:
    """Return what an error of apsw or the system means for the log at `path`."""
    number = getattr(error, "errno", None)
    if isinstance(error, apsw.BusyError):
        return f"Another process holds a lock on {path}. Find it with: fuser {path}"
    if isinstance(error, BlockingIOError):  # raised by flock, or by eventlog with a message
        busy = f"Other processes have been writing to {path} for seconds. Find them with: fuser {path}-queue"
        return busy if number else str(error)
    if number in TOO_MANY_FILES or (isinstance(error, apsw.CantOpenError) and _lacks_descriptors()):
        return f"{path} cannot be opened: too many files are open. Raise the limit: LimitNOFILE=, or ulimit -n"
    if isinstance(error, apsw.IOError) or number == errno.EIO:
        return f"The disk of {path} fails ({error}). Look at the kernel's log: journalctl -k"
    if os.path.isdir(path):
        return f"{path} is a folder. TRACKLOG_DATABASE must name a file in it"
    # The message of any failure of SQLite's backup is "not an error".
    return why_denied(path) or f"{path}: {type(error).__name__ if str(error) == 'not an error' else error}"


def _lacks_descriptors() -> bool:
    """Return True if too few descriptors are left to open a log. SQLite does not report that itself."""
    try:
        with ExitStack() as opened:
            for _ in range(LOG_DESCRIPTORS):
                opened.enter_context(open(os.devnull))
    except OSError as failure:
        return failure.errno in TOO_MANY_FILES
    return False
