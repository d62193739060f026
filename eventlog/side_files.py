"""Files next to the log that get its mode and owner, also from root."""

import os
import stat
from contextlib import suppress

NEW_LOG_MODE = 0o600


def open_side_file(model: str, path: str, access: int = os.O_RDWR) -> int:
    """Return a descriptor of the file at `path`. Create the file if there is none.

    It gets the mode and owner of `model`, which is the log or a folder of the service, so that root leaves no file
    that the service cannot open. If there is no log, that is 0600 and the owner of its folder. Only root can change an
    owner. Raises OSError, also for a symbolic link: root must not follow one that another user made.
    """
    wanted = _wanted_mode(model)
    descriptor = os.open(path, access | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, NEW_LOG_MODE)
    _set_mode(descriptor, *wanted)
    return descriptor


def make_side_folder(log: str, path: str) -> None:
    """Create the folder if there is none, with the mode and owner of the log. Raise OSError."""
    mode, *owner = _wanted_mode(log)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _set_mode(descriptor, mode | (mode & 0o444) >> 2, *owner)
    finally:
        os.close(descriptor)


def give_to_owner_of(folder: str, path: str) -> None:
    """As root, give a new file or folder at `path` to the owner of `folder`. As another user, do nothing."""
    if os.geteuid() == 0:
        found = os.stat(folder)
        os.chown(path, found.st_uid, found.st_gid, follow_symlinks=False)


def sync(path: str) -> None:
    """Return once a file's bytes, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: str) -> int:
    """Return the bytes of a file, or 0 if there is none."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _wanted_mode(model: str) -> tuple[int, int, int]:
    """Return the mode, user id and group id that a file should have."""
    try:
        found = os.stat(model)
    except FileNotFoundError:
        folder = os.stat(os.path.dirname(os.path.abspath(model)))
        return NEW_LOG_MODE, folder.st_uid, folder.st_gid
    return stat.S_IMODE(found.st_mode) & 0o666, found.st_uid, found.st_gid


def _set_mode(descriptor: int, mode: int, user: int, group: int) -> None:
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink != 1:
        return  # a hard link to a file elsewhere, which root must not give away
    with suppress(OSError):
        if (found.st_uid, found.st_gid) != (user, group):
            os.fchown(descriptor, user if os.geteuid() == 0 else -1, group)
    with suppress(OSError):
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
