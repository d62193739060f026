"""What a log needs of the machine that it is on, checked before anything is served."""

import os

import apsw

from .access import why_denied
from .faults import Unusable

#: Before it, two processes that write and checkpoint can corrupt a log (SQLite's release notes: the WAL-reset bug).
OLDEST_SQLITE = (3, 51, 3)

#: File systems of another machine, over which the shared memory of a write-ahead log does not reach.
REMOTE = {
    *("9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"),
    *("fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
}


def check(path: str) -> None:
    """Raise Unusable, with a sentence that says what to do, where the log at `path` could not be kept."""
    check_sqlite(apsw.sqlite_lib_version())
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise Unusable(f"The folder {folder} does not exist. Create it, or set TRACKLOG_DATABASE")
    if denied := why_denied(path):
        raise Unusable(denied)
    with open("/proc/self/mounts") as mounts:
        check_file_system(folder, mounts.read())


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
