"""Say in a sentence why SQLite or the system refused, and what to do about it."""

import errno
import os

import apsw

from .access import why_denied

TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)  # of the process, of the machine
DESCRIPTORS = 4  # that opening a log takes: the file, its -wal, its -shm, its folder


def is_full(error: Exception) -> bool:
    """Tell whether the disk, or what a quota allows of it, is full."""
    is_shm = getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE  # SQLite does not call that full
    return isinstance(error, apsw.FullError) or is_shm or _number(error) in (errno.ENOSPC, errno.EDQUOT)


def explain(path: str, error: Exception) -> str:
    """Return what an error of apsw's or of the system's means for the log at `path`."""
    if isinstance(error, apsw.BusyError):
        return f"Another process holds a lock on {path}. Find it with: fuser {path}"
    if isinstance(error, BlockingIOError):  # with a text of our own, or of flock
        held = f"Other processes have been writing to {path} for seconds. Find them with: fuser {path}-queue"
        return held if error.errno else str(error)
    if isinstance(error, apsw.CorruptError):
        return f"{path} is damaged ({error}). Restore a backup; flask events check lists the damage"
    if _number(error) in TOO_MANY_FILES or (isinstance(error, apsw.CantOpenError) and _lacks_descriptors()):
        return f"{path} cannot be opened: too many files are open. Raise the limit: LimitNOFILE=, or ulimit -n"
    if isinstance(error, apsw.IOError) or _number(error) == errno.EIO:
        return f"The disk of {path} fails ({error}). See what the kernel says: journalctl -k"
    if os.path.isdir(path):
        return f"{path} is a folder; TRACKLOG_DATABASE must name a file in it"
    # SQLite's backup says "not an error" of any failure.
    return why_denied(path) or f"{path}: {type(error).__name__ if str(error) == 'not an error' else error}"


def _number(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _lacks_descriptors() -> bool:
    """Tell whether so few descriptors are left that SQLite, which does not say so, could not open a log."""
    opened: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            opened.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as failure:
        return failure.errno in TOO_MANY_FILES
    finally:
        for each in opened:
            os.close(each)
    return False
