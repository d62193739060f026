"""Delete rows in small transactions, with pauses for the processes that write."""

import time
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any

from .database import Database
from .records import Counts
from .reserve import make_room

DELETE_SECONDS = 0.004  # of a transaction, without its commit
PAUSE_FACTOR = 4  # the pause after a transaction is this many times as long as the transaction

#: Bytes of the log's file in use. Free pages are left out, since they will be used again.
USED_BYTES = """
    SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""

#: The columns of a deleted row that are counted: the arguments of Counts.add.
_COUNTED = {
    "events": "source, type, 'removed', '', received_at, 1",
    "rejected": "source, '', 'dropped', code, received_at, times_seen",
}


def delete_rows(
    database: Database,
    table: str,
    ids: Iterable[int],
    *,
    unless: str = "false",
    max_bytes: int = -1,
    **bindings: str | int | None,
) -> int:
    """Delete the rows with these ids, in this order. Return how many there were.

    Keeps rows for which `unless`, an SQL condition with `bindings`, is true. Stops once the log uses no more than
    `max_bytes`; a negative number deletes all.
    """
    remaining, deleted = deque(ids), 0
    statement = f"DELETE FROM {table} WHERE id = :id AND NOT {unless} RETURNING {_COUNTED.get(table, 'id')}"
    while remaining:
        make_room(database)
        with database.transaction() as connection:
            started_at, counts = monotonic(), Counts()
            while remaining and monotonic() < started_at + DELETE_SECONDS:
                if max_bytes >= 0 and connection.execute(USED_BYTES).get <= max_bytes:
                    remaining.clear()
                    break
                rows: list[Any] = connection.execute(statement, {"id": remaining.popleft(), **bindings}).fetchall()
                for row in rows:
                    deleted += 1
                    if table in _COUNTED:
                        counts.add(*row)
            counts.write(connection)
        time.sleep(PAUSE_FACTOR * (monotonic() - started_at))
    return deleted
