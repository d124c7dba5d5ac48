-- lookup_profile
SELECT coalesce(json_agg(json_build_array("uri", "cid")), '[]')::text
FROM "profile"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_profile
DELETE FROM "profile"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "profile" ("uri", "cid", "creator", "displayName", "description", "avatarCid", "bannerCid", "joinedViaStarterPackUri", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
