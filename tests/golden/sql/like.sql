-- lookup_like
SELECT coalesce(json_agg(json_build_array("uri", "cid", "subject", "creator")), '[]')::text
FROM "like"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- lookup_like_key
SELECT coalesce(json_agg(json_build_array(wanted.k1, wanted.k2, held.uri)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(k1, k2)
CROSS JOIN LATERAL (
    SELECT uri FROM "like" WHERE "subject" = wanted.k1 AND "creator" = wanted.k2 OFFSET 0
) AS held;

-- delete_like
DELETE FROM "like"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "like" ("uri", "cid", "creator", "subject", "subjectCid", "via", "viaCid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
