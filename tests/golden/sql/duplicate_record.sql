-- delete_duplicate_record
DELETE FROM "duplicate_record"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "duplicate_record" ("uri", "cid", "duplicateOf", "indexedAt") FROM STDIN (FORMAT binary);
