-- lookup_verification
SELECT coalesce(json_agg(json_build_array("uri", "cid", "subject", "creator")), '[]')::text
FROM "verification"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- lookup_verification_key
SELECT coalesce(json_agg(json_build_array(wanted.k1, wanted.k2, held.uri)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(k1, k2)
CROSS JOIN LATERAL (
    SELECT uri FROM "verification" WHERE "subject" = wanted.k1 AND "creator" = wanted.k2 OFFSET 0
) AS held;

-- delete_verification
DELETE FROM "verification"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "verification" ("uri", "cid", "creator", "rkey", "subject", "handle", "displayName", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
