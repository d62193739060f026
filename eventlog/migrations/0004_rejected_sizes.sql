-- Version 4: the size of the table rejected is that of its whole rows, not only of their bodies.

-- About the bytes that a row takes of the file, within a third: its text and body, its entry in the index, and a whole
-- page if no other row fits next to it.
CREATE VIEW rejected_sizes AS
SELECT id, max(content + 120, iif(content > 2000, 4096, 0)) AS size
FROM (
    SELECT
        id,
        length(CAST(source || received_at || route || code || message || errors || digest AS BLOB))
            + length(body) AS content
    FROM rejected
);

UPDATE rejected_size SET bytes = (SELECT coalesce(sum(size), 0) FROM rejected_sizes);

DROP TRIGGER rejected_grows;
DROP TRIGGER rejected_shrinks;

CREATE TRIGGER rejected_added AFTER INSERT ON rejected BEGIN
    UPDATE rejected_size SET bytes = bytes + (SELECT size FROM rejected_sizes WHERE id = new.id);
END;

CREATE TRIGGER rejected_deleted BEFORE DELETE ON rejected BEGIN
    UPDATE rejected_size SET bytes = bytes - (SELECT size FROM rejected_sizes WHERE id = old.id);
END;

-- A body that is rejected again gets the latest reason. Subtract its old size here and add the new one below.
CREATE TRIGGER rejected_replaced BEFORE UPDATE ON rejected BEGIN
    UPDATE rejected_size SET bytes = bytes - (SELECT size FROM rejected_sizes WHERE id = old.id);
END;

CREATE TRIGGER rejected_updated AFTER UPDATE ON rejected BEGIN
    UPDATE rejected_size SET bytes = bytes + (SELECT size FROM rejected_sizes WHERE id = new.id);
END;
