"""The errors that the log raises, and the translation of SQLite's errors into them."""

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from .error_messages import explain, is_full

#: Errors that the row itself causes. All others that SQLite reports are about the file, the disk or a lock.
ROW_ERRORS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)


class Unavailable(Exception):
    """The log cannot be read or written now. The same attempt may succeed later."""


class DiskFull(Unavailable):
    """The disk of the log has no room for more."""

    def __init__(self, path: str) -> None:
        super().__init__(f"The disk of {path} is full")


class Damaged(Unavailable):
    """SQLite found an error in the log's file."""


class Unusable(Unavailable):
    """The file at the path cannot be used as the log. The message says what to do about it."""


class Missing(Unusable):
    """There is no file at the path."""


class NotPossible(Exception):
    """The request contradicts what is in the log, or names something that is not. The message says what."""


@contextmanager
def sqlite_errors(path: str) -> Iterator[None]:
    """Translate errors of SQLite and the system about the log at `path` into Unavailable. Row errors pass."""
    try:
        yield
    except ROW_ERRORS:
        raise
    except apsw.NotADBError as error:
        raise Unusable(f"{path} is not a SQLite database. TRACKLOG_DATABASE must name a tracklog log") from error
    except apsw.CorruptError as error:
        raise Damaged(f"{path} is damaged ({error})") from error
    except (apsw.Error, OSError) as error:
        raise DiskFull(path) if is_full(error) else Unavailable(explain(path, error)) from error
