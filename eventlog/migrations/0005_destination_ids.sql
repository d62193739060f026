-- Version 5: a destination has an id that is never reused, so that one added under an old name is another destination.

ALTER TABLE destinations RENAME TO destinations_3;

CREATE TABLE destinations (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT    NOT NULL UNIQUE,
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
) STRICT;

INSERT INTO destinations (
    name, url, types, sources, paused, position, reserved,
    delivered, failures, last_success_at, last_error, last_error_at, created_at
)
SELECT
    name, url, types, sources, paused, position, reserved,
    delivered, failures, last_success_at, last_error, last_error_at, created_at
FROM destinations_3 ORDER BY created_at, name;

DROP TABLE destinations_3;

-- A service of this API drops an event whose messageId it has seen under the same key. So a key must carry one source.
-- If the log has only one source, the destination is limited to that.
UPDATE destinations SET sources = known.names
FROM (
    SELECT json_group_array(name) AS names
    FROM (SELECT name FROM sources UNION SELECT source FROM counts WHERE outcome = 'stored')
) AS known
WHERE (url LIKE 'http://%' OR url LIKE 'https://%')
    AND json_array_length(sources) = 0 AND json_array_length(known.names) = 1;

UPDATE destinations SET
    last_error = 'It sends several sources with one key, so events of two sources with one messageId are taken for one. Remove it, '
        || 'and add a destination with its own key for each source: --source NAME --from ' || (position + 1),
    last_error_at = strftime('%Y-%m-%dT%H:%M:%fZ')
WHERE (url LIKE 'http://%' OR url LIKE 'https://%') AND json_array_length(sources) <> 1;
