-- delete_post_embed_image
DELETE FROM "post_embed_image"
WHERE "postUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "post_embed_image" ("postUri", "position", "imageCid", "alt") FROM STDIN (FORMAT binary);
