-- lookup_starter_pack
SELECT coalesce(json_agg(json_build_array("uri", "cid")), '[]')::text
FROM "starter_pack"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_starter_pack
DELETE FROM "starter_pack"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "starter_pack" ("uri", "cid", "creator", "name", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
