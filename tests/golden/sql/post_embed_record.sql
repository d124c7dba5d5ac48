-- delete_post_embed_record
DELETE FROM "post_embed_record"
WHERE "postUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "post_embed_record" ("postUri", "embedUri", "embedCid") FROM STDIN (FORMAT binary);
