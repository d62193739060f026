"""Open or create a file next to the log, with the log's mode and owner."""

import os
import stat
from contextlib import suppress

NEW_LOG_MODE = 0o600


def open_side_file(log: str, path: str, flags: int = 0) -> int:
    """Return a descriptor for reading and writing the file at `path`; create it if there is none.

    The file gets the mode and owner of the log at `log`, so that root leaves no file that the service cannot open.
    Without a log: 0600 and the owner of its folder. Only root can give a file away; for others the owner stays.
    Raises OSError, also for a symbolic link: root must not follow one that another user made.
    """
    model = _model(log)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, NEW_LOG_MODE)
    _imitate(descriptor, *model)
    return descriptor


def make_side_folder(log: str, path: str) -> None:
    """Create the folder at `path` if there is none, with the mode and owner of the log at `log`."""
    mode, *owner = _model(log)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _imitate(descriptor, mode | (mode & 0o444) >> 2, *owner)
    finally:
        os.close(descriptor)


def _model(log: str) -> tuple[int, int, int]:
    """Return the mode, user and group that a file next to the log should have."""
    try:
        found = os.stat(log)
    except FileNotFoundError:
        folder = os.stat(os.path.dirname(os.path.abspath(log)))
        return NEW_LOG_MODE, folder.st_uid, folder.st_gid
    return stat.S_IMODE(found.st_mode) & 0o666, found.st_uid, found.st_gid


def _imitate(descriptor: int, mode: int, user: int, group: int) -> None:
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink != 1:
        return  # another name of a file elsewhere, which root must not give away
    with suppress(PermissionError):
        if (found.st_uid, found.st_gid) != (user, group):
            os.fchown(descriptor, user if os.geteuid() == 0 else -1, group)
    with suppress(PermissionError):
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
