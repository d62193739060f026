-- Version 7: the views also look into the other places where SDKs put a value. The first text or number counts.

DROP VIEW identifies;
DROP VIEW pages;
DROP VIEW screens;

-- Only an identify is about the traits in its `context`. A group's `context` has those of the user.
CREATE VIEW identifies AS
SELECT id, timestamp, user_id, anonymous_id,
       (SELECT atom FROM json_each(json_extract(payload, '$.traits.name', '$.context.traits.name'))
        WHERE type IN ('text', 'integer', 'real') AND atom <> '' ORDER BY key LIMIT 1) AS name,
       (SELECT atom FROM json_each(json_extract(payload, '$.traits.email', '$.context.traits.email'))
        WHERE type IN ('text', 'integer', 'real') AND atom <> '' ORDER BY key LIMIT 1) AS email,
       coalesce(
           (SELECT value FROM json_each(json_extract(payload, '$.traits', '$.context.traits'))
            WHERE type = 'object' AND value <> '{}' ORDER BY key LIMIT 1),
           json_extract(payload, '$.traits')
       ) AS traits,
       source, message_id
FROM events WHERE type = 'identify';

CREATE VIEW pages AS
SELECT id, timestamp, user_id, anonymous_id,
       coalesce(json_extract(payload, '$.section'), json_extract(payload, '$.category')) AS section,
       (SELECT atom FROM json_each(json_extract(payload, '$.name', '$.event', '$.properties.name'))
        WHERE type IN ('text', 'integer', 'real') AND atom <> '' ORDER BY key LIMIT 1) AS name,
       (SELECT atom FROM json_each(json_extract(payload, '$.properties.url', '$.context.page.url'))
        WHERE type IN ('text', 'integer', 'real') AND atom <> '' ORDER BY key LIMIT 1) AS url,
       (SELECT atom FROM json_each(json_extract(payload, '$.properties.referrer', '$.context.page.referrer'))
        WHERE type IN ('text', 'integer', 'real') AND atom <> '' ORDER BY key LIMIT 1) AS referrer,
       json_extract(payload, '$.properties') AS properties,
       source, message_id
FROM events WHERE type = 'page';

CREATE VIEW screens AS
SELECT id, timestamp, user_id, anonymous_id,
       coalesce(json_extract(payload, '$.section'), json_extract(payload, '$.category')) AS section,
       (SELECT atom FROM json_each(json_extract(payload, '$.name', '$.event', '$.properties.name'))
        WHERE type IN ('text', 'integer', 'real') AND atom <> '' ORDER BY key LIMIT 1) AS name,
       json_extract(payload, '$.properties') AS properties,
       source, message_id
FROM events WHERE type = 'screen';
