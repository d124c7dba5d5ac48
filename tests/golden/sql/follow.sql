-- lookup_follow
SELECT coalesce(json_agg(json_build_array("uri", "cid", "creator", "subjectDid")), '[]')::text
FROM "follow"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- lookup_follow_key
SELECT coalesce(json_agg(json_build_array(wanted.k1, wanted.k2, held.uri)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(k1, k2)
CROSS JOIN LATERAL (
    SELECT uri FROM "follow" WHERE "creator" = wanted.k1 AND "subjectDid" = wanted.k2 OFFSET 0
) AS held;

-- delete_follow
DELETE FROM "follow"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "follow" ("uri", "cid", "creator", "subjectDid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
