-- lookup_thread_gate
SELECT coalesce(json_agg(json_build_array("uri", "cid", "postUri")), '[]')::text
FROM "thread_gate"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- lookup_thread_gate_key
SELECT coalesce(json_agg(json_build_array(wanted.k1, held.uri)), '[]')::text
FROM unnest(($1::text)::text[]) AS wanted(k1)
CROSS JOIN LATERAL (
    SELECT uri FROM "thread_gate" WHERE "postUri" = wanted.k1 OFFSET 0
) AS held;

-- delete_thread_gate
DELETE FROM "thread_gate"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "thread_gate" ("uri", "cid", "creator", "postUri", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
