-- Version 3: events are forwarded to destinations.

CREATE TABLE destinations (
    name             TEXT    NOT NULL PRIMARY KEY,
    url              TEXT    NOT NULL,            -- may contain ${NAMES} of environment variables, for secrets
    types            TEXT    NOT NULL,            -- a JSON array; [] for all
    sources          TEXT    NOT NULL,            -- a JSON array; [] for all
    paused           INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    position         INTEGER NOT NULL,            -- events.id up to which all are delivered, skipped or dead
    reserved         INTEGER,                     -- events.id up to which an object is being written
    delivered        INTEGER NOT NULL DEFAULT 0,
    failures         INTEGER NOT NULL DEFAULT 0,  -- failed attempts
    last_success_at  TEXT,
    last_error       TEXT,                        -- of the latest attempt, if it failed
    last_error_at    TEXT,
    created_at       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Events that a destination rejected. They are copies, since the event itself may be pruned.
CREATE TABLE dead_letters (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    destination  TEXT    NOT NULL,
    event_id     INTEGER NOT NULL,
    source       TEXT    NOT NULL,
    message_id   TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    user_id      TEXT,
    anonymous_id TEXT,
    name         TEXT,
    timestamp    TEXT    NOT NULL,
    received_at  TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    code         TEXT    NOT NULL,
    message      TEXT    NOT NULL,
    attempts     INTEGER NOT NULL,
    died_at      TEXT    NOT NULL,
    UNIQUE (destination, event_id)
) STRICT;
