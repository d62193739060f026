-- Version 6: a source has several keys while its key is changed.

CREATE TABLE source_keys (
    id          TEXT NOT NULL PRIMARY KEY,  -- a Source ID that senders authenticate with
    source      TEXT NOT NULL,              -- sources.name
    created_at  TEXT NOT NULL,
    retired_at  TEXT                        -- since then nobody can use it; the row keeps other sources from it
) STRICT;

INSERT INTO source_keys (id, source, created_at) SELECT id, name, created_at FROM sources ORDER BY created_at, name;

-- Workers and commands of the version before read and write only `sources`, whose `id` is always a key in use.
CREATE TRIGGER source_added AFTER INSERT ON sources BEGIN
    INSERT INTO source_keys (id, source, created_at) VALUES (new.id, new.name, new.created_at);
END;
