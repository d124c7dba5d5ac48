-- delete_quote
DELETE FROM "quote"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "quote" ("uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
