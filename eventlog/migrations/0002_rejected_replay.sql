-- Version 2: rejections can be replayed, and the size of their table is limited.

ALTER TABLE rejected ADD COLUMN replayed_at TEXT;
ALTER TABLE rejected ADD COLUMN became INTEGER;  -- events.id of the event that it became, or of a batch's first

-- The size of the table rejected, updated by triggers, since a sum would read the whole table.
CREATE TABLE rejected_size (
    bytes INTEGER NOT NULL
) STRICT;

INSERT INTO rejected_size SELECT coalesce(sum(length(body)), 0) FROM rejected;

CREATE TRIGGER rejected_grows AFTER INSERT ON rejected BEGIN
    UPDATE rejected_size SET bytes = bytes + length(new.body);
END;

CREATE TRIGGER rejected_shrinks AFTER DELETE ON rejected BEGIN
    UPDATE rejected_size SET bytes = bytes - length(old.body);
END;

-- Counts of deleted rows, too: 'removed' events, and 'dropped' rejections.
ALTER TABLE counts RENAME TO counts_1;

CREATE TABLE counts (
    source    TEXT    NOT NULL,
    type      TEXT    NOT NULL,  -- '' if rejected
    outcome   TEXT    NOT NULL CHECK (outcome IN ('stored', 'duplicate', 'rejected', 'removed', 'dropped')),
    code      TEXT    NOT NULL,  -- why it was rejected, or ''
    count     INTEGER NOT NULL,
    first_at  TEXT    NOT NULL,
    last_at   TEXT    NOT NULL,
    PRIMARY KEY (source, type, outcome, code)
) STRICT, WITHOUT ROWID;

INSERT INTO counts SELECT * FROM counts_1;
DROP TABLE counts_1;
