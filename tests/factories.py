"""Make example requests, events, rejections and logs, of which a test changes only what it is about.

Functions import the app themselves, so that tests/system can use the constants and still import nothing of the app.
"""

import json
import re

SOURCE_ID = "ILoveData123"
AUTHENTICATION = {"Authentication": "Basic SUxvdmVEYXRhMTIz"}  # as in the API's own examples
AT = "2015-11-10T00:45:23.412Z"
TRACK = {"userId": "1", "event": "Added File"}


def item(**fields):
    """Return a track call as an item of a batch."""
    return {"type": "track"} | TRACK | fields


def event(message_id="1", **columns):
    """Return a track event of the example source, to append to a log."""
    from eventlog import Event

    defaults = {
        "source": "example",
        "message_id": str(message_id),
        "type": "track",
        "user_id": "1",
        "anonymous_id": None,
        "name": "Added File",
        "timestamp": AT,
        "received_at": AT,
        "payload": json.dumps({"messageId": str(message_id)}),
    }
    return Event(**defaults | columns)


def events(number, **columns):
    """Return events with the messageIds 1 to `number`."""
    return [event(each, **columns) for each in range(1, number + 1)]


def stored_event(id, **columns):
    """Return an event as a log returns it, with its id as its messageId too."""
    from eventlog import StoredEvent

    return StoredEvent(id, *event(id, **columns))


def rejection(body=b"{", **columns):
    """Return a rejection of a body that the example source sent to /v1/track."""
    from eventlog import Rejection

    defaults = {
        "source": "example",
        "received_at": AT,
        "route": "/v1/track",
        "code": "invalid_json",
        "message": "no",
        "errors": "[]",
        "cut": False,
    }
    return Rejection(**defaults | {"body": body} | columns)


def dead_letters(events, code="400", message="no"):
    """Return what a destination that rejected these events on the first attempt adds to a log."""
    from eventlog import DeadLetter

    return [DeadLetter(each, code, message, 1, AT) for each in events]


def damage_index(path):
    """Overwrite the end of the index that finds duplicates, in a log that is closed."""
    import apsw

    connection = apsw.Connection(path)
    page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_events_1'").get
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    with open(path, "r+b") as file:
        file.seek(page * 4096 - 16)
        file.write(b"\xff" * 16)


def new_log(path):
    """Create a log with the example source, if there is none, and return it open."""
    import eventlog

    eventlog.create(path)
    log = eventlog.EventLog(path)
    log.sources.add("example", SOURCE_ID)
    return log


def without_log_name(output):
    """Return a command's output without the line that names the log it changes."""
    return re.sub(r"^(Log:|Created the log) .*\n", "", output, flags=re.MULTILINE)
