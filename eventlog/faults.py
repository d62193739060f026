"""What can be wrong with a log, in the log's own words."""

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from .reasons import explain, is_full

#: Faults of the row itself. Everything else that SQLite reports is about the file, the disk or a lock.
ROW_FAULTS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)


class Unavailable(Exception):
    """The log cannot be read or written now; the same attempt may succeed later."""


class DiskFull(Unavailable):
    """The disk of the log at a path has no room for more."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"The disk of {path} is full. Delete other files, or old events with: flask events prune --older-than AGE"
        )


class Unusable(Unavailable):
    """What is at the path cannot serve as the log; the message says what to do about it."""


class NotPossible(Exception):
    """What was asked contradicts what is in the log, or is missing from it; the message says what."""


@contextmanager
def sqlite_errors(path: str) -> Iterator[None]:
    """Turn SQLite's errors into Unavailable, but for those that one row is guilty of."""
    try:
        yield
    except ROW_FAULTS:
        raise
    except apsw.NotADBError as error:
        raise Unusable(f"{path} is not a SQLite database; TRACKLOG_DATABASE must name a tracklog log") from error
    except (apsw.Error, OSError) as error:
        raise DiskFull(path) if is_full(error) else Unavailable(explain(path, error)) from error
