"""Checks of the machine that a log is on, before the log is used."""

import os

import apsw

from .access import why_denied
from .errors import Unusable

#: With older ones, two processes that write and checkpoint can corrupt a log (SQLite's "WAL-reset bug").
MIN_SQLITE_VERSION = (3, 51, 3)

#: File systems of other machines. The shared memory that a WAL needs does not work on them.
REMOTE_FILE_SYSTEMS = {
    *("9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"),
    *("fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
}


def check(path: str) -> None:
    """Raise Unusable if a log cannot be kept at `path`. The message says what to do."""
    check_sqlite(apsw.sqlite_lib_version())
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise Unusable(f"The folder {folder} does not exist. Create it, or set TRACKLOG_DATABASE")
    if denied := why_denied(path):
        raise Unusable(denied)
    with open("/proc/self/mounts") as mounts:
        check_file_system(folder, mounts.read())


def check_sqlite(version: str) -> None:
    """Raise Unusable if this version of SQLite can corrupt a log."""
    if tuple(map(int, version.split("."))) < MIN_SQLITE_VERSION:
        needed = ".".join(map(str, MIN_SQLITE_VERSION))
        raise Unusable(f"apsw contains SQLite {version}, which can corrupt a log. Install an apsw with SQLite {needed}")


def check_file_system(folder: str, mounts: str) -> None:
    """Raise Unusable if `folder` is on a remote file system. `mounts` is the text of /proc/self/mounts."""
    folder, nearest, kind = os.path.realpath(folder), "", ""
    for line in mounts.splitlines():
        _, point, this_kind, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")  # a blank is \040 there
        if os.path.commonpath([folder, point]) == point and len(point) >= len(nearest):
            nearest, kind = point, this_kind
    if kind in REMOTE_FILE_SYSTEMS:
        raise Unusable(f"{folder} is on a network file system ({kind}), where a log breaks. Keep it on a local disk")
