-- lookup_labeler
SELECT coalesce(json_agg(json_build_array("uri", "cid")), '[]')::text
FROM "labeler"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_labeler
DELETE FROM "labeler"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "labeler" ("uri", "cid", "creator", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
