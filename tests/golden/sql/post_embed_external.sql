-- delete_post_embed_external
DELETE FROM "post_embed_external"
WHERE "postUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "post_embed_external" ("postUri", "uri", "title", "description", "thumbCid") FROM STDIN (FORMAT binary);
