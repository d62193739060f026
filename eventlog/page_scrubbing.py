"""Overwrite what secure_delete leaves of deleted rows in the log's file.

When rows are deleted, SQLite moves others from page to page to fill them up. The gap in a page between the list of its
cells and the cells then keeps its old bytes: copies of rows, which are still there when those rows are deleted.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic

import apsw

from .database import Database
from .errors import Unavailable, sqlite_errors

TABLE_LEAF = 13  # the first byte of a page with rows of a table; pages of an index hold hashes, not events
MAX_PAGES = TABLE_LEAF << 24  # up to this, only a table leaf begins with the byte: others begin with a page number
PAGES_PER_REPORT = 1000
PAGES_PER_ROUND = 200  # overwritten while writers wait
LOCK_SECONDS = 0.1  # that writers wait until readers are done
RETRY_SECONDS = 0.05  # between two rounds or attempts, in which writers go on
MAX_WAIT_SECONDS = 60.0


def scrub(path: str, report: Callable[[int], object] = lambda passed: None) -> None:
    """Overwrite all deleted rows in the log at `path` and in its -wal.

    Calls `report` with the number of pages searched since its last call.
    Raises Unavailable if other processes prevent it for MAX_WAIT_SECONDS.
    """
    _overwrite(path, [])  # copies the deletion itself from the WAL into the file
    with sqlite_errors(path), _open_pages(path) as file:
        pages = [page for page, _, _ in _find_remains(file, report=report)]
    for start in range(0, len(pages), PAGES_PER_ROUND):
        time.sleep(RETRY_SECONDS)
        _overwrite(path, pages[start : start + PAGES_PER_ROUND])


def _overwrite(path: str, pages: list[int]) -> None:
    """Empty the WAL into the file, then write zeros into the gaps of these pages.

    SQLite never reads those bytes, so neither a concurrent reader nor an interruption does harm.
    """
    deadline = monotonic() + MAX_WAIT_SECONDS
    while True:
        database = Database(path)  # a new one, since pages in the cache of another would bring the old bytes back
        try:
            with database.exclusive_transaction(monotonic() + LOCK_SECONDS) as connection, _open_pages(path) as file:
                for _, offset, size in _find_remains(file, pages):
                    file.xWrite(bytes(size), offset)
                file.xSync(apsw.SQLITE_SYNC_NORMAL)
                # A change, after which all other connections drop the pages in their caches.
                connection.pragma("user_version", connection.pragma("user_version"))
            return
        except Unavailable as failure:
            if monotonic() > deadline:
                raise Unavailable(
                    f"All is deleted, but its bytes are still in {path} or its -wal, because another process reads or "
                    f"writes without a pause. Stop it, and run this again ({failure})"
                ) from failure
            time.sleep(RETRY_SECONDS)
        finally:
            database.close()


def _find_remains(
    file: apsw.VFSFile, pages: Iterable[int] | None = None, report: Callable[[int], object] = lambda passed: None
) -> Iterator[tuple[int, int, int]]:
    """Yield page, offset and size of each gap that is not all zeros. Search these pages, or all."""
    header = file.xRead(100, 0)
    size = int.from_bytes(header[16:18]) if header[16:18] != b"\0\1" else 65536
    count = file.xFileSize() // size
    if count >= MAX_PAGES:
        raise Unavailable("The log is too large to tell the kinds of its pages apart")
    for page in range(2, count + 1) if pages is None else pages:  # the first holds the schema, and a longer header
        if page % PAGES_PER_REPORT == 0:
            report(PAGES_PER_REPORT)
        content = file.xRead(size, (page - 1) * size)
        if content[0] == TABLE_LEAF:
            first, last = 8 + 2 * int.from_bytes(content[3:5]), int.from_bytes(content[5:7]) or 65536
            if any(content[first:last]):
                yield page, (page - 1) * size + first, last - first


@contextmanager
def _open_pages(path: str) -> Iterator[apsw.VFSFile]:
    """Open the log's file through SQLite. Closing a descriptor of our own would drop SQLite's locks on it."""
    file = apsw.VFSFile("", path, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        yield file
    finally:
        file.xClose()
