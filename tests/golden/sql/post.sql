-- lookup_post
SELECT coalesce(json_agg(json_build_array("uri", "cid")), '[]')::text
FROM "post"
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- delete_post
DELETE FROM "post"
WHERE "uri" = ANY((SELECT ($1::text)::text[])::text[]);

-- copy
COPY "post" ("uri", "cid", "creator", "text", "replyRoot", "replyRootCid", "replyParent", "replyParentCid", "langs", "tags", "createdAt", "indexedAt", "invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules", "hasThreadGate", "hasPostGate") FROM STDIN (FORMAT binary);
