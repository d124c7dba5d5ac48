-- lookup_list
SELECT coalesce(json_agg(json_build_array("uri", "cid")), '[]')::text
FROM "list"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_list
DELETE FROM "list"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "list" ("uri", "cid", "creator", "name", "purpose", "description", "descriptionFacets", "avatarCid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
