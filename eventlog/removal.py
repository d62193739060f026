"""Delete rows while others write: a few milliseconds' worth at a time, each with the counts of what has gone."""

import time
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any

from .database import Database
from .patience import PATIENCE
from .records import Counts
from .reserve import make_room

SPELL = 0.004  # seconds that a transaction deletes for; the commit comes on top
REST = 4  # times as long as a transaction took, the queue is the others'

#: What the log uses of its file: all but the pages that are free, which will be used again.
USED_BYTES = """
    SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""

#: What a row that has gone adds to the counts: the arguments of Counts.add.
_COUNTED = {
    "events": "source, type, 'removed', '', received_at, 1",
    "rejected": "source, '', 'dropped', code, received_at, times_seen",
}


def remove(
    database: Database,
    table: str,
    ids: Iterable[int],
    *,
    unless: str = "false",
    most_bytes: int = -1,
    **bindings: str | int | None,
) -> int:
    """Delete the rows with these ids, in this order, but for those of which `unless` holds; return how many went.

    It stops where the log uses no more than `most_bytes`.
    """
    left, removed = deque(ids), 0
    statement = f"DELETE FROM {table} WHERE id = :id AND NOT {unless} RETURNING {_COUNTED.get(table, 'id')}"
    while left:
        make_room(database)
        with database.transaction(monotonic() + PATIENCE) as connection:
            began, counts = monotonic(), Counts()
            while left and monotonic() < began + SPELL:
                if most_bytes >= 0 and connection.execute(USED_BYTES).get <= most_bytes:
                    left.clear()
                    break
                rows: list[Any] = connection.execute(statement, {"id": left.popleft(), **bindings}).fetchall()
                for row in rows:
                    removed += 1
                    if table in _COUNTED:
                        counts.add(*row)
            counts.write(connection)
        time.sleep(REST * (monotonic() - began))
    return removed
