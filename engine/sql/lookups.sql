-- What posts, quotes, feed items, duplicates and mutes there are, for the fold.
--
-- Every parameter is one array literal as text; every answer one row of one column: a JSON
-- array. Keys are walked one by one through their index: ``OFFSET 0`` keeps the planner from
-- turning that into a scan.

-- name: lookup_posts
-- These posts: uri, CID, sortAt, parent, root, judgements. $1 uris.
SELECT coalesce(json_agg(json_build_array(
    uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot", "violatesThreadGate"
)), '[]')::text
FROM post
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: lookup_post_chain
-- These posts and those that they answer, five in a row. $1 uris.
WITH RECURSIVE chain AS (
    SELECT post.*, 1 AS height
    FROM unnest(($1::text)::text[]) AS wanted(uri)
    CROSS JOIN LATERAL (
        SELECT uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
            "violatesThreadGate"
        FROM post WHERE post.uri = wanted.uri OFFSET 0
    ) AS post
    UNION
    SELECT post.*, chain.height + 1
    FROM chain
    CROSS JOIN LATERAL (
        SELECT uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
            "violatesThreadGate"
        FROM post WHERE post.uri = chain."replyParent" OFFSET 0
    ) AS post
    WHERE chain.height < 5
)
SELECT coalesce(json_agg(json_build_array(
    uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot", "violatesThreadGate"
)), '[]')::text
FROM chain;

-- name: lookup_post_tree
-- The posts that answer these, five levels down. $1 uris.
WITH RECURSIVE tree AS (
    SELECT post.*, 1 AS depth
    FROM unnest(($1::text)::text[]) AS wanted(uri)
    CROSS JOIN LATERAL (
        SELECT uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
            "violatesThreadGate"
        FROM post WHERE post."replyParent" = wanted.uri OFFSET 0
    ) AS post
    UNION
    SELECT post.*, tree.depth + 1
    FROM tree
    CROSS JOIN LATERAL (
        SELECT uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot",
            "violatesThreadGate"
        FROM post WHERE post."replyParent" = tree.uri OFFSET 0
    ) AS post
    WHERE tree.depth < 5
)
SELECT coalesce(json_agg(json_build_array(
    uri, cid, "sortAt", "replyParent", "replyRoot", "invalidReplyRoot", "violatesThreadGate"
)), '[]')::text
FROM tree;

-- name: lookup_own_posts
-- What these posts quote: the first record embedded, and the quote. $1 uris.
SELECT coalesce(json_agg(json_build_array(
    wanted.uri, embed."embedUri", embed."embedCid", quote.subject, quote."subjectCid"
)), '[]')::text
FROM unnest(($1::text)::text[]) AS wanted(uri)
LEFT JOIN LATERAL (
    SELECT "embedUri", "embedCid" FROM post_embed_record
    WHERE "postUri" = wanted.uri ORDER BY ctid LIMIT 1
) AS embed ON true
LEFT JOIN LATERAL (
    SELECT subject, "subjectCid" FROM quote WHERE quote.uri = wanted.uri OFFSET 0
) AS quote ON true
WHERE embed IS NOT NULL OR quote IS NOT NULL;

-- name: lookup_quoted
-- How often each of these posts is quoted, by the CID that is named. $1 uris; $2 for each the uris
-- of quotes that do not count, as an array.
SELECT coalesce(json_agg(json_build_array(wanted.uri, quote."subjectCid", quote.quotes)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(uri, others)
CROSS JOIN LATERAL (
    SELECT "subjectCid", count(*) AS quotes FROM quote
    WHERE subject = wanted.uri AND uri <> ALL(wanted.others::text[])
    GROUP BY "subjectCid" OFFSET 0
) AS quote;

-- name: lookup_feed_items
-- Of which post these feed items are. $1 uris.
SELECT coalesce(json_agg(json_build_array(uri, "postUri")), '[]')::text
FROM feed_item
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: lookup_duplicates
-- Which of these lost a unique key, to whom, and when. $1 uris.
SELECT coalesce(json_agg(json_build_array(uri, cid, "duplicateOf", "indexedAt")), '[]')::text
FROM duplicate_record
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: lookup_candidates
-- Who lost a unique key to one of these, with its record if that exists. $1 uris.
SELECT coalesce(json_agg(json_build_array(
    loser.uri, loser.cid, loser."duplicateOf", loser."indexedAt",
    record.cid, record.json, record."indexedAt"
)), '[]')::text
FROM unnest(($1::text)::text[]) AS wanted(uri)
CROSS JOIN LATERAL (
    SELECT uri, cid, "duplicateOf", "indexedAt" FROM duplicate_record
    WHERE "duplicateOf" = wanted.uri OFFSET 0
) AS loser
LEFT JOIN LATERAL (
    SELECT cid, json, "indexedAt" FROM record WHERE record.uri = loser.uri OFFSET 0
) AS record ON true;

-- name: lookup_texts
-- These records as JSON text. $1 uris.
SELECT coalesce(json_agg(json_build_array(uri, json)), '[]')::text
FROM record
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: lookup_some_mutes
-- Who mutes which thread: all of it if that is little, else the first of it.
SELECT coalesce(json_agg(json_build_array("mutedByDid", "rootUri")), '[]')::text
FROM (SELECT "mutedByDid", "rootUri" FROM thread_mute ORDER BY "rootUri", "mutedByDid" LIMIT 1000)
    AS mute;

-- name: lookup_mutes
-- Which of these threads are muted by whom. $1 DIDs; $2 uris of roots.
SELECT coalesce(json_agg(json_build_array(wanted.did, wanted.root)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(did, root)
CROSS JOIN LATERAL (
    SELECT 1 FROM thread_mute
    WHERE "rootUri" = wanted.root AND "mutedByDid" = wanted.did OFFSET 0
) AS mute;
