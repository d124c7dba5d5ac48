-- lookup_list_block
SELECT coalesce(json_agg(json_build_array("uri", "cid", "creator", "subjectUri")), '[]')::text
FROM "list_block"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- lookup_list_block_key
SELECT coalesce(json_agg(json_build_array(wanted.k1, wanted.k2, held.uri)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(k1, k2)
CROSS JOIN LATERAL (
    SELECT uri FROM "list_block" WHERE "creator" = wanted.k1 AND "subjectUri" = wanted.k2 OFFSET 0
) AS held;

-- delete_list_block
DELETE FROM "list_block"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "list_block" ("uri", "cid", "creator", "subjectUri", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
