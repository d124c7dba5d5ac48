-- delete_post_embed_gallery_image
DELETE FROM "post_embed_gallery_image"
WHERE "postUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "post_embed_gallery_image" ("postUri", "position", "imageCid", "alt") FROM STDIN (FORMAT binary);
