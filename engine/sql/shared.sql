-- Rows that several records make together, and the numbers that they add up to.
--
-- Every parameter is one array literal as text, sorted by its first.

-- name: delete_feed_items_of
-- A post's own feed item and those of its reposts. $1 uris of posts.
DELETE FROM feed_item WHERE "postUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- name: delete_quote
-- The quotes that these posts make; how many named each CID. Counted by what was there: the owner
-- of a quoted post may remove the same quotes. $1 uris.
WITH gone AS (
    DELETE FROM quote WHERE uri = ANY((SELECT ($1::text)::text[])::text[])
    RETURNING "subjectCid"
)
SELECT "subjectCid" AS cid, count(*) AS quotes FROM gone GROUP BY 1;

-- name: delete_quotes_of
-- The quotes of these posts; how many named each CID. $1 uris of posts.
WITH gone AS (
    DELETE FROM quote WHERE subject = ANY((SELECT ($1::text)::text[])::text[])
    RETURNING "subjectCid"
)
SELECT "subjectCid" AS cid, count(*) AS quotes FROM gone GROUP BY 1;

-- name: delete_notifications_of
-- What these records told. $1 uris.
DELETE FROM notification WHERE "recordUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- name: mark_thread_gates
-- Whether these posts, where they exist, have a thread gate. $1 uris; $2 whether.
UPDATE post SET "hasThreadGate" = new.there
FROM unnest(($1::text)::text[], ($2::text)::boolean[]) AS new(uri, there)
WHERE post.uri = new.uri AND post.uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: mark_post_gates
-- Whether these posts, where they exist, have a post gate. $1 uris; $2 whether.
UPDATE post SET "hasPostGate" = new.there
FROM unnest(($1::text)::text[], ($2::text)::boolean[]) AS new(uri, there)
WHERE post.uri = new.uri AND post.uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: delete_op_thread_replies
-- Replies of a thread's own author that are gone; others find their way through them.
-- $1 uris of roots; $2 uris; $3 when.
UPDATE op_thread_reply AS old SET "deletedAt" = new.at
FROM unnest(($1::text)::text[], ($2::text)::text[], ($3::text)::text[]) AS new(root, uri, at)
WHERE old."rootUri" = new.root AND old.uri = new.uri
    AND old."rootUri" = ANY((SELECT ($1::text)::text[])::text[]);

-- name: insert_op_thread_replies
-- Replies of a thread's own author. One that was deleted stays so.
-- $1 uris of roots; $2 uris of parents; $3 uris; $4 when it was deleted again, or NULL.
INSERT INTO op_thread_reply AS old ("rootUri", "parentUri", uri, "deletedAt")
SELECT * FROM unnest(
    ($1::text)::text[], ($2::text)::text[], ($3::text)::text[], ($4::text)::text[]
)
ON CONFLICT ("rootUri", uri) DO UPDATE SET "deletedAt" = excluded."deletedAt"
WHERE excluded."deletedAt" IS NOT NULL;

-- name: add_post_counts
-- Differences of a post's numbers; the rows are there and locked afterwards.
-- $1 uris; $2 likes; $3 replies; $4 reposts.
INSERT INTO post_agg AS old (uri, "likeCount", "replyCount", "repostCount")
SELECT * FROM unnest(
    ($1::text)::text[], ($2::text)::bigint[], ($3::text)::bigint[], ($4::text)::bigint[]
)
ON CONFLICT (uri) DO UPDATE SET
    "likeCount" = old."likeCount" + excluded."likeCount",
    "replyCount" = old."replyCount" + excluded."replyCount",
    "repostCount" = old."repostCount" + excluded."repostCount";

-- name: set_quote_counts
-- How many quotes name each CID, and with it the posts whose quotes were looked at: as many as
-- there were before these differences, without those that went, and what came until then.
-- $1 CIDs; $2 differences; $3 uris, which have a row; $4 CIDs; $5 differences then; $6 CIDs of
-- quotes that went; $7 how many.
WITH changed AS (
    SELECT * FROM unnest(($1::text)::text[], ($2::text)::bigint[]) AS changed(cid, quotes)
), all_changed AS (
    SELECT cid, quotes FROM changed
    UNION ALL
    SELECT cid, -quotes FROM unnest(($6::text)::text[], ($7::text)::bigint[]) AS gone(cid, quotes)
), held AS (
    INSERT INTO {state}.quote_count AS held (cid, quotes)
    SELECT cid, sum(quotes) FROM all_changed GROUP BY cid ORDER BY cid COLLATE "C"
    ON CONFLICT (cid) DO UPDATE SET quotes = held.quotes + excluded.quotes
    RETURNING cid, quotes
)
UPDATE post_agg SET "quoteCount" = held.quotes - changed.quotes + looked.quotes
FROM unnest(($3::text)::text[], ($4::text)::text[], ($5::text)::bigint[])
    AS looked(uri, cid, quotes)
JOIN held ON held.cid = looked.cid
JOIN changed ON changed.cid = looked.cid
WHERE post_agg.uri = looked.uri AND post_agg.uri = ANY((SELECT ($3::text)::text[])::text[]);

-- name: add_profile_counts
-- Differences of a profile's numbers. $1 DIDs; $2 followers; $3 follows; $4 posts.
INSERT INTO profile_agg AS old (did, "followersCount", "followsCount", "postsCount")
SELECT * FROM unnest(
    ($1::text)::text[], ($2::text)::bigint[], ($3::text)::bigint[], ($4::text)::bigint[]
)
ON CONFLICT (did) DO UPDATE SET
    "followersCount" = old."followersCount" + excluded."followersCount",
    "followsCount" = old."followsCount" + excluded."followsCount",
    "postsCount" = old."postsCount" + excluded."postsCount";
