-- Version 11: a destination has rules for its events: which it gets, and how they are transformed and masked.

-- A JSON object with any of only, excluded and mask (arrays of texts) and transform (the name of a file, not a path).
ALTER TABLE destinations ADD COLUMN event_rules TEXT NOT NULL DEFAULT '{}';
