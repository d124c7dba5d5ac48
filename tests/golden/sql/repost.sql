-- lookup_repost
SELECT coalesce(json_agg(json_build_array("uri", "cid", "creator", "subject")), '[]')::text
FROM "repost"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- lookup_repost_key
SELECT coalesce(json_agg(json_build_array(wanted.k1, wanted.k2, held.uri)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(k1, k2)
CROSS JOIN LATERAL (
    SELECT uri FROM "repost" WHERE "creator" = wanted.k1 AND "subject" = wanted.k2 OFFSET 0
) AS held;

-- delete_repost
DELETE FROM "repost"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "repost" ("uri", "cid", "creator", "subject", "subjectCid", "via", "viaCid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
