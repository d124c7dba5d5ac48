-- lookup_record
SELECT coalesce(json_agg(json_build_array("uri")), '[]')::text
FROM "record"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_record
DELETE FROM "record"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- update_record
UPDATE "record" AS old SET
    "cid" = new."cid",
    "json" = new."json",
    "indexedAt" = new."indexedAt"
FROM unnest(
    ($1::text)::text[],
    ($2::text)::text[],
    ($3::text)::text[],
    ($4::text)::text[]
) AS new("uri", "cid", "json", "indexedAt")
WHERE old.uri = new.uri AND old.uri = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "record" ("uri", "cid", "did", "json", "indexedAt") FROM STDIN (FORMAT binary);
