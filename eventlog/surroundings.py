"""What a log needs of the machine that it is on, checked before anything is served."""

import os
import pwd
import shlex
from glob import escape, glob

import apsw

from .faults import Unusable

#: Before it, two processes that write and checkpoint can corrupt a log (SQLite's release notes: the WAL-reset bug).
OLDEST_SQLITE = (3, 51, 3)

#: The ends of the names of all files and folders that are created next to a log.
SIDE_FILES = ("-wal", "-shm", "-journal", "-queue", "-reserve", "-metrics", "-forward-*")

#: File systems of another machine, over which the shared memory of a write-ahead log does not reach.
REMOTE = {
    *("9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"),
    *("fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
}


def check(path: str) -> None:
    """Raise Unusable, with a sentence that says what to do, where the log at `path` could not be kept."""
    check_sqlite(apsw.sqlite_lib_version())
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise Unusable(f"The folder {folder} does not exist. Create it, or set TRACKLOG_DATABASE")
    check_access(folder, path)
    with open("/proc/self/mounts") as mounts:
        check_file_system(folder, mounts.read())


def check_access(folder: str, path: str) -> None:
    """Raise Unusable unless this user can read and write the log's folder, the log and all its side files."""
    sides = [side for end in SIDE_FILES for side in sorted(glob(escape(path) + end))]
    denied = [each for each in (folder, path, *sides) if not _is_open_to_us(each)]
    if not denied:
        return
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise Unusable(f"{folder} is on a file system that is mounted read-only. Mount it for writing")
    us, owner = _user_name(os.geteuid()), _user_name(os.stat(denied[0]).st_uid)
    names = shlex.join(denied)
    if owner == us:
        fix = f"Run: chmod u+rwX {names}"
    elif denied[0] in sides:
        fix = f"Run as root: chown {_user_name(os.stat(path).st_uid)} {names}"
    else:
        fix = f"Run this as {owner}, or run as root: chown {us} {names}"
    raise Unusable(f"The user {us} cannot read and write {denied[0]}, which belongs to {owner}. {fix}")


def _is_open_to_us(path: str) -> bool:
    if not os.path.lexists(path):
        return True  # and to be created
    needed = os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(path) else 0)
    return os.access(path, needed, effective_ids=True)


def _user_name(id: int) -> str:
    try:
        return pwd.getpwuid(id).pw_name
    except KeyError:
        return str(id)


def check_sqlite(version: str) -> None:
    if tuple(map(int, version.split("."))) < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise Unusable(f"apsw brings SQLite {version}, which can corrupt a log. Install one that brings {needed}")


def check_file_system(folder: str, mounts: str) -> None:
    """Judge by the mount point, of those in the text of /proc/mounts, that is nearest above `folder`."""
    folder, nearest, kind = os.path.realpath(folder), "", ""
    for line in mounts.splitlines():
        _, point, this_kind, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")  # a blank is \040 there
        if os.path.commonpath([folder, point]) == point and len(point) >= len(nearest):
            nearest, kind = point, this_kind
    if kind in REMOTE:
        raise Unusable(f"{folder} is on a network file system ({kind}), where a log breaks. Keep it on a local disk")
