"""Which of the log's files the user cannot open, and the command that fixes it."""

import os
import pwd
import shlex
from glob import escape, glob

#: Suffixes of all files and folders that are created next to a log.
SIDE_FILES = ("-wal", "-shm", "-journal", "-queue", "-reserve", "-metrics", "-forward-*")


def why_denied(path: str) -> str | None:
    """Return why this user cannot read and write the log's files and folder, or None if it can."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    sides = [side for suffix in SIDE_FILES for side in sorted(glob(escape(path) + suffix))]
    denied = [each for each in (folder, path, *sides) if not _is_accessible(each)]
    if not denied:
        return None
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} is on a file system that is mounted read-only. Mount it for writing"
    user, owner = _user_name(os.geteuid()), _user_name(os.stat(denied[0]).st_uid)
    names = shlex.join(denied)
    if owner == user:
        fix = f"Run: chmod u+rwX {names}"
    elif denied[0] in sides:
        fix = f"Run as root: chown {_user_name(os.stat(path).st_uid)} {names}"
    else:
        fix = f"Run this as {owner}, or run as root: chown {user} {names}"
    return f"The user {user} cannot read and write {denied[0]}, which belongs to {owner}. {fix}"


def _is_accessible(path: str) -> bool:
    if not os.path.lexists(path):
        return True  # it will be created
    needed = os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(path) else 0)
    return os.access(path, needed, effective_ids=True)


def _user_name(id: int) -> str:
    try:
        return pwd.getpwuid(id).pw_name
    except KeyError:
        return str(id)
