-- lookup_list_item
SELECT coalesce(json_agg(json_build_array("uri", "cid", "listUri", "subjectDid")), '[]')::text
FROM "list_item"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- lookup_list_item_key
SELECT coalesce(json_agg(json_build_array(wanted.k1, wanted.k2, held.uri)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(k1, k2)
CROSS JOIN LATERAL (
    SELECT uri FROM "list_item" WHERE "listUri" = wanted.k1 AND "subjectDid" = wanted.k2 OFFSET 0
) AS held;

-- delete_list_item
DELETE FROM "list_item"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "list_item" ("uri", "cid", "creator", "subjectDid", "listUri", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
