"""Overwrite what deleted rows have left in the pages of the log's file, where secure_delete does not reach.

When rows go, SQLite moves others from page to page to fill them up. What a page has between the list of its cells and
the cells is then whatever was there before: copies of rows, which outlive the deletion of the rows themselves.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic

import apsw

from .database import Database
from .faults import Unavailable, sqlite_errors

LEAF = 13  # the first byte of a page with rows of a table; an index has hashes, not what was sent
MOST_PAGES = LEAF << 24  # up to that, no page of another kind begins so: theirs begin with the number of a page
FEW = 200  # pages that are overwritten while others wait
HOLD = 0.1  # seconds for which writers wait for those who read
NAP = 0.05  # seconds until the next try, for the others
PATIENCE = 60.0  # seconds


def erase(path: str) -> None:
    """Return when neither the log at `path` nor its -wal has a byte of what was deleted before.

    Raises Unavailable where others are in the way for too long.
    """
    _overwrite(path, [])  # brings the deletion itself into the file
    with sqlite_errors(path), _file(path) as file:
        pages = [page for page, _, _ in _remains(file)]
    for start in range(0, len(pages), FEW):
        time.sleep(NAP)
        _overwrite(path, pages[start : start + FEW])


def _overwrite(path: str, pages: list[int]) -> None:
    """Empty the -wal into the file, and write zeros between these pages' lists and cells, as they are by then.

    SQLite gives those bytes no meaning, so it does no harm to who reads meanwhile, or if it is interrupted.
    """
    deadline = monotonic() + PATIENCE
    while True:
        database = Database(path)  # afresh, since a page in its cache would bring back what is overwritten
        try:
            with database.alone(monotonic() + HOLD) as connection, _file(path) as file:
                for _, offset, size in _remains(file, pages):
                    file.xWrite(bytes(size), offset)
                file.xSync(apsw.SQLITE_SYNC_NORMAL)
                # A change, at which every other connection lets go of the pages in its cache.
                connection.pragma("user_version", connection.pragma("user_version"))
            return
        except Unavailable as failure:
            if monotonic() > deadline:
                raise Unavailable(
                    f"All is deleted, but its bytes are still in {path} or its -wal, since somebody reads or writes "
                    f"without an end. End that, and do the same again ({failure})"
                ) from failure
            time.sleep(NAP)
        finally:
            database.close()


def _remains(file: apsw.VFSFile, pages: Iterable[int] | None = None) -> Iterator[tuple[int, int, int]]:
    """Yield which of the pages, or of all, have anything but zeros between their list and their cells; where; bytes."""
    header = file.xRead(100, 0)
    size = int.from_bytes(header[16:18]) if header[16:18] != b"\0\1" else 65536
    count = file.xFileSize() // size
    if count >= MOST_PAGES:
        raise Unavailable("The log is too large to tell its pages apart")
    for page in range(2, count + 1) if pages is None else pages:  # the first has the schema, and a longer header
        content = file.xRead(size, (page - 1) * size)
        if content[0] == LEAF:
            first, last = 8 + 2 * int.from_bytes(content[3:5]), int.from_bytes(content[5:7]) or 65536
            if any(content[first:last]):
                yield page, (page - 1) * size + first, last - first


@contextmanager
def _file(path: str) -> Iterator[apsw.VFSFile]:
    """Open the log's file by SQLite's own means: closed by others, it would take SQLite's locks on it along."""
    file = apsw.VFSFile("", path, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        yield file
    finally:
        file.xClose()
