-- lookup_feed_generator
SELECT coalesce(json_agg(json_build_array("uri", "cid")), '[]')::text
FROM "feed_generator"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_feed_generator
DELETE FROM "feed_generator"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "feed_generator" ("uri", "cid", "creator", "feedDid", "displayName", "description", "descriptionFacets", "avatarCid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
