-- Version 8: requests to a destination carry headers of the operator's.

-- A JSON object of values by name. Values may contain ${NAMES} of environment variables, for secrets.
ALTER TABLE destinations ADD COLUMN headers TEXT NOT NULL DEFAULT '{}';
