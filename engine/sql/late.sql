-- What something new may be late for: posts that named it before, to be judged again.
--
-- Every parameter is one array literal as text; every answer of a look-up one row of one
-- column: a JSON array.

-- name: lookup_latest
-- The latest time (milliseconds since 1970) of any post or gate applied.
SELECT json_build_array(json_build_array(max(millis)))::text FROM {state}.latest;

-- name: lookup_thread
-- All posts that hang on these, over any number of parents. $1 uris.
WITH RECURSIVE below AS (
    SELECT post.uri
    FROM unnest(($1::text)::text[]) AS wanted(uri)
    CROSS JOIN LATERAL (
        SELECT uri FROM post WHERE post."replyParent" = wanted.uri OFFSET 0
    ) AS post
    UNION
    SELECT post.uri
    FROM below
    CROSS JOIN LATERAL (
        SELECT uri FROM post WHERE post."replyParent" = below.uri OFFSET 0
    ) AS post
)
SELECT coalesce(json_agg(json_build_array(
    post.uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
    "violatesThreadGate", "violatesEmbeddingRules", "indexedAt"
)), '[]')::text
FROM below
CROSS JOIN LATERAL (SELECT * FROM post WHERE post.uri = below.uri OFFSET 0) AS post;

-- name: lookup_quoting
-- The posts that quote these: whom by which CID, then the post itself. $1 uris.
SELECT coalesce(json_agg(json_build_array(
    wanted.uri, quote."subjectCid", json_build_array(
        post.uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
        "violatesThreadGate", "violatesEmbeddingRules", "indexedAt"
    )
)), '[]')::text
FROM unnest(($1::text)::text[]) AS wanted(uri)
CROSS JOIN LATERAL (
    SELECT uri, "subjectCid" FROM quote WHERE quote.subject = wanted.uri OFFSET 0
) AS quote
CROSS JOIN LATERAL (SELECT * FROM post WHERE post.uri = quote.uri OFFSET 0) AS post;

-- name: lookup_told
-- What these records told: id, record, recipient, reason, subject. $1 uris.
SELECT coalesce(json_agg(json_build_array(
    id::text, "recordUri", did, reason, "reasonSubject"
)), '[]')::text
FROM notification
WHERE "recordUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- name: delete_told
-- Notifications that a late gate or verdict takes away. $1 ids.
DELETE FROM notification WHERE id = ANY((SELECT ($1::text)::bigint[])::bigint[]);

-- name: judge_replies
-- What is judged of replies, whoever wrote them. $1 uris; $2 whether the root is invalid;
-- $3 whether the thread's gate keeps them out.
UPDATE post SET "invalidReplyRoot" = new.invalid, "violatesThreadGate" = new.violates
FROM unnest(($1::text)::text[], ($2::text)::boolean[], ($3::text)::boolean[])
    AS new(uri, invalid, violates)
WHERE post.uri = new.uri AND post.uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: judge_quotes
-- The same of posts that quote. $1 uris; $2 true or NULL.
UPDATE post SET "violatesEmbeddingRules" = new.violates
FROM unnest(($1::text)::text[], ($2::text)::boolean[]) AS new(uri, violates)
WHERE post.uri = new.uri AND post.uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: advance_latest
-- The latest time of a batch. $1 shards; $2 milliseconds since 1970.
INSERT INTO {state}.latest AS held (shard, millis)
SELECT * FROM unnest(($1::text)::integer[], ($2::text)::bigint[])
ON CONFLICT (shard) DO UPDATE SET millis = greatest(held.millis, excluded.millis);

-- name: lookup_judged
-- These posts, if they are still there, locked until the end of the transaction. $1 uris.
WITH held AS (
    SELECT uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
        "violatesThreadGate", "violatesEmbeddingRules", "indexedAt"
    FROM post
    WHERE uri = ANY((SELECT ($1::text)::text[])::text[])
    ORDER BY uri
    FOR UPDATE
)
SELECT coalesce(json_agg(json_build_array(
    uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
    "violatesThreadGate", "violatesEmbeddingRules", "indexedAt"
)), '[]')::text
FROM held;

-- name: check_posts
-- Lock posts that go or are replaced; a row for each whose thread's gate keeps it out now and did
-- not, or the other way round. $1 uris; $2 whether it did.
WITH held AS (
    SELECT uri, "violatesThreadGate" IS TRUE AS violates
    FROM post
    WHERE uri = ANY((SELECT ($1::text)::text[])::text[])
    ORDER BY uri
    FOR UPDATE
)
SELECT held.uri
FROM held
JOIN unnest(($1::text)::text[], ($2::text)::boolean[]) AS known(uri, violates) USING (uri)
WHERE held.violates <> known.violates;

-- name: insert_unsettled
-- What somebody may have missed who writes beside us. $1 shards; $2 uris; $3 whether it is a post
-- that is there, with an invalid root.
INSERT INTO {state}.unsettled (shard, uri, invalid)
SELECT * FROM unnest(($1::text)::integer[], ($2::text)::text[], ($3::text)::boolean[]);
