-- lookup_post
SELECT coalesce(json_agg(json_build_array("uri")), '[]')::text
FROM "post"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_post
DELETE FROM "post"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "post" ("uri", "cid", "creator", "text", "replyRoot", "replyRootCid", "replyParent", "replyParentCid", "langs", "tags", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
