-- delete_post_embed_video
DELETE FROM "post_embed_video"
WHERE "postUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "post_embed_video" ("postUri", "videoCid", "alt") FROM STDIN (FORMAT binary);
