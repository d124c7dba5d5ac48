-- delete_feed_item
DELETE FROM "feed_item"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "feed_item" ("uri", "cid", "type", "postUri", "originatorDid", "sortAt") FROM STDIN (FORMAT binary);
