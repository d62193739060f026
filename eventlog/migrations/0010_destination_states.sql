-- Version 10: a destination that refuses every event gets the refused events again, and its wait can be ended.

ALTER TABLE destinations ADD COLUMN refused_from INTEGER;  -- the position before the first of the refusals in a row
ALTER TABLE destinations ADD COLUMN resumed_at TEXT;       -- when an operator last asked for a delivery at once
