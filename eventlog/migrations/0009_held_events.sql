-- Version 9: what each destination keeps from being pruned, as the last prune found it.

-- events.id of the last event that was due to be deleted; those after `position` were kept for this destination.
ALTER TABLE destinations ADD COLUMN held_to INTEGER;

-- Since when every prune has kept events for it, if `position` is still below `held_to`.
ALTER TABLE destinations ADD COLUMN held_since TEXT;
