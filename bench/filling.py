"""Make benchmark events, and logs with any number of them, without the service."""

import os
import shutil
import sys
import uuid
from pathlib import Path

import apsw
from servers import PROJECT, add_source

sys.path.insert(0, str(PROJECT))

import eventlog

MAX_RENEWED_EVENTS = 1_000_000  # a larger log grows little in a round, and copying it takes long

AT = "2015-11-10T00:45:23.412Z"

# Rows as large as a benchmark event's, with keys as random as hashes. Rows up to the id :old are from 2015.
FILL = """
WITH RECURSIVE numbers (n) AS (
    SELECT 1 + (SELECT coalesce(max(id), 0) FROM events) UNION ALL SELECT n + 1 FROM numbers WHERE n < :last
)
INSERT INTO events (source, message_id, type, user_id, name, timestamp, received_at, payload, dedupe_key)
SELECT 'bench', message_id, 'track', '1234', 'Added File', at, at, printf(:payload, message_id, at), randomblob(16)
FROM (
    SELECT
        lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(8)))
            AS message_id,
        iif(n <= :old, '2015-11-10T00:45:23.412Z', strftime('%Y-%m-%dT%H:%M:%fZ')) AS at
    FROM numbers
)
"""
PAYLOAD = (
    '{"type":"track","messageId":"%s","userId":"1234","event":"Added File","properties":{"fileTitle":'
    '"Life, the Universe, and Everything","fileSize":"509","fileType":"PDF"},"originalTimestamp":'
    '"2015-11-10T00:45:23.412Z","timestamp":"%s","receivedAt":"2015-11-10T00:45:24.000Z"}'
)


def event() -> eventlog.Event:
    """Return a benchmark event, ready to append to a log."""
    message_id = str(uuid.uuid4())
    payload = PAYLOAD % (message_id, AT)
    return eventlog.Event("bench", message_id, "track", "1234", None, "Added File", AT, AT, payload)


def fill(database: Path, events: int, old: int = 0) -> None:
    """Fill the log up to `events` events; no process may have it open. Those up to the id `old` are from 2015."""
    connection = apsw.Connection(str(database))
    connection.pragma("journal_mode", "off")  # durability does not matter here
    connection.pragma("synchronous", "off")
    connection.pragma("cache_size", -2 * 1024 * 1024)  # KiB
    with connection:
        connection.execute(FILL, {"last": events, "old": old, "payload": PAYLOAD})
        connection.execute("DELETE FROM counts")
        connection.execute("INSERT INTO counts SELECT 'bench', 'track', 'stored', '', count(*), '', '' FROM events")
    connection.pragma("journal_mode", "wal")
    connection.close()


def create(database: Path, checkout: Path, events: int) -> None:
    """Create a log with `events` events, of a checkout's schema."""
    add_source(database, checkout)
    if events:
        fill(database, events)


def copy(model: Path, folder: Path, events: int) -> None:
    """Copy a log of `events` events to `folder`, in place of one that has grown. A large one is copied only once."""
    if events <= MAX_RENEWED_EVENTS:
        shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        folder.mkdir()
        shutil.copyfile(model, folder / "tracklog.db")
        os.sync()  # so that the system does not do it during a round
