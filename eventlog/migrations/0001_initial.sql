-- Version 1 of the event log. Any program with SQLite 3.37 or later can read all of it: it uses no JSONB, no function
-- of its own and no newer feature.

CREATE TABLE sources (
    id          TEXT    NOT NULL PRIMARY KEY,  -- the Source ID that senders authenticate with
    name        TEXT    NOT NULL UNIQUE,       -- how events, counts and commands refer to it
    enabled     INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,  -- in commit order, never reused
    source        TEXT NOT NULL,                      -- sources.name
    message_id    TEXT NOT NULL,
    type          TEXT NOT NULL,
    user_id       TEXT,
    anonymous_id  TEXT,
    name          TEXT,                               -- of the tracked event, the page or the screen
    timestamp     TEXT NOT NULL,                      -- when it happened, by the server's clock
    received_at   TEXT NOT NULL,
    payload       TEXT NOT NULL,                      -- the event as it is forwarded, in JSON
    dedupe_key    BLOB NOT NULL UNIQUE                -- 16 bytes that stand for (source, message_id)
) STRICT;

-- Rejections, kept so that an operator can fix and replay them.
CREATE TABLE rejected (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    source       TEXT    NOT NULL,
    received_at  TEXT    NOT NULL,            -- when it was first seen
    route        TEXT    NOT NULL,
    code         TEXT    NOT NULL,
    message      TEXT    NOT NULL,
    errors       TEXT    NOT NULL,            -- a JSON array: field, code, message
    body         BLOB    NOT NULL,            -- as sent, inflated; an item of a batch as its own JSON
    cut          INTEGER NOT NULL CHECK (cut IN (0, 1)),  -- whether the body is only the beginning of the one sent
    digest       TEXT    NOT NULL,            -- of the body, in hexadecimal
    times_seen   INTEGER NOT NULL DEFAULT 1,
    UNIQUE (source, digest)
) STRICT;

-- Updated in the transaction of the rows that they count. So received = stored + duplicate + rejected, after any crash.
CREATE TABLE counts (
    source    TEXT    NOT NULL,
    type      TEXT    NOT NULL,  -- '' if rejected
    outcome   TEXT    NOT NULL CHECK (outcome IN ('stored', 'duplicate', 'rejected')),
    code      TEXT    NOT NULL,  -- why it was rejected, or ''
    count     INTEGER NOT NULL,
    first_at  TEXT    NOT NULL,
    last_at   TEXT    NOT NULL,
    PRIMARY KEY (source, type, outcome, code)
) STRICT, WITHOUT ROWID;

CREATE VIEW identifies AS
SELECT id, timestamp, user_id, anonymous_id,
       json_extract(payload, '$.traits.name') AS name,
       json_extract(payload, '$.traits.email') AS email,
       json_extract(payload, '$.traits') AS traits,
       source, message_id
FROM events WHERE type = 'identify';

CREATE VIEW tracks AS
SELECT id, timestamp, user_id, anonymous_id,
       name AS event,
       json_extract(payload, '$.properties') AS properties,
       source, message_id
FROM events WHERE type = 'track';

CREATE VIEW pages AS
SELECT id, timestamp, user_id, anonymous_id,
       coalesce(json_extract(payload, '$.section'), json_extract(payload, '$.category')) AS section,
       name,
       json_extract(payload, '$.properties.url') AS url,
       json_extract(payload, '$.properties.referrer') AS referrer,
       json_extract(payload, '$.properties') AS properties,
       source, message_id
FROM events WHERE type = 'page';

CREATE VIEW screens AS
SELECT id, timestamp, user_id, anonymous_id,
       coalesce(json_extract(payload, '$.section'), json_extract(payload, '$.category')) AS section,
       name,
       json_extract(payload, '$.properties') AS properties,
       source, message_id
FROM events WHERE type = 'screen';

CREATE VIEW groups AS
SELECT id, timestamp, user_id, anonymous_id,
       json_extract(payload, '$.groupId') AS group_id,
       json_extract(payload, '$.traits.name') AS name,
       json_extract(payload, '$.traits') AS traits,
       source, message_id
FROM events WHERE type = 'group';

CREATE VIEW aliases AS
SELECT id, timestamp,
       json_extract(payload, '$.previousId') AS previous_id,
       user_id,
       source, message_id
FROM events WHERE type = 'alias';
