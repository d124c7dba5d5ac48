-- Accounts that were deleted: asking their hosts, and taking out what is theirs.
--
-- The data plane is on the search_path. Keys of rows come as array literals in one text, like
-- those of the indexer's other statements, so that a plan never depends on how many there are.

-- name: deletion_drop_stale
-- Call off what an account event or commit came after.
DELETE FROM {state}.deletion AS asked
USING {state}.repo
WHERE asked.confirmed_at IS NULL AND asked.next_attempt_at <= now()
    AND repo.did = asked.did
    AND (repo.account_time IS DISTINCT FROM asked.time OR repo.rev IS DISTINCT FROM asked.rev);

-- name: deletion_pick
-- Deletions that wait longest for an answer, without those in hand.
-- $1 how many; $2 DIDs in hand.
SELECT did, time, attempts
FROM {state}.deletion
WHERE confirmed_at IS NULL AND next_attempt_at <= now() AND did <> ALL ($2::text[])
ORDER BY next_attempt_at
LIMIT $1;

-- name: deletion_confirm
-- The host has no such repository. $1 DID; $2 time of the event that was asked about.
UPDATE {state}.deletion SET confirmed_at = now(), last_error = NULL
WHERE did = $1 AND time = $2 AND confirmed_at IS NULL;

-- name: deletion_drop
-- The account lives. $1 DID; $2 time of the event that was asked about.
DELETE FROM {state}.deletion WHERE did = $1 AND time = $2 AND confirmed_at IS NULL;

-- name: deletion_failed
-- Ask again later. $1 DID; $2 time of the event that was asked about; $3 why; $4 seconds to wait.
UPDATE {state}.deletion
SET attempts = attempts + 1, last_error = $3,
    next_attempt_at = now() + make_interval(secs => $4)
WHERE did = $1 AND time = $2 AND confirmed_at IS NULL;

-- name: deletion_ready
-- Confirmed deletions of these shards, those that were begun first. One is ready when every shard
-- holds what its relay had sent before it; a shard may be given up by all relays, so not for ever.
-- $1 shards; $2 source; $3 how long to wait for other shards; $4 how many.
SELECT did, started_at IS NOT NULL AS started
FROM {state}.deletion AS asked
WHERE confirmed_at IS NOT NULL AND shard = ANY($1::int[])
    AND (started_at IS NOT NULL OR confirmed_at < now() - $3::interval OR NOT EXISTS (
        SELECT FROM {state}.position
        WHERE source = $2
            AND coalesce(
                (relays -> (asked.relay || '/' || asked.generation) ->> 'seq')::bigint, -1
            ) < asked.seq
    ))
ORDER BY started_at, confirmed_at
LIMIT $4;

-- name: deletion_begin
-- Begin, or go on with, a deletion: whether it may. $1 DID.
UPDATE {state}.deletion AS asked SET started_at = coalesce(asked.started_at, now())
WHERE asked.did = $1 AND asked.confirmed_at IS NOT NULL AND (
    asked.started_at IS NOT NULL
    OR EXISTS (
        SELECT FROM {state}.repo
        WHERE repo.did = asked.did AND repo.account_time = asked.time
            AND repo.rev IS NOT DISTINCT FROM asked.rev
    )
)
RETURNING did;

-- name: deletion_end
-- Done, or called off. $1 DID.
DELETE FROM {state}.deletion WHERE did = $1 AND confirmed_at IS NOT NULL;

-- name: deletion_actor
-- The actor, before what is due of it: the identity role locks in this order. $1 DID.
DELETE FROM actor WHERE did = $1;

-- name: deletion_actor_sync
DELETE FROM actor_sync WHERE did = $1;

-- name: deletion_identity_due
DELETE FROM {state}.identity_due WHERE did = $1;

-- name: deletion_fetch
-- A snapshot that is on its way came too late: its entries are of no fetch any more. $1 DID.
WITH no_touched AS (
    DELETE FROM {state}.touched WHERE did = $1
), no_stale AS (
    DELETE FROM {state}.stale WHERE did = $1
)
UPDATE {state}.repo SET fetch_id = NULL, fetch_rev = NULL, backfilled_rev = NULL, resync = NULL
WHERE did = $1;

-- name: is_ordered_by_bytes
-- Whether texts are, so that all uris of a repository lie together in an index.
SELECT coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') <> 'i'
    AND (datcollate IN ('C', 'POSIX', 'ucs_basic') OR datcollate ILIKE 'C.utf%8')
FROM pg_database AS d WHERE datname = current_database();

-- name: deletion_op_threads
-- Replies of an own thread, also those whose records are long gone: their roots are the DID's.
-- No index knows their uris. $1 'at://DID'; $2 'at://DID/'; $3 'at://DID0', the first after.
DELETE FROM op_thread_reply
WHERE "rootUri" >= $1 AND "rootUri" < $3 AND starts_with(uri, $2);

-- name: deletion_op_threads_unordered
-- The same where texts are ordered by a language: the table is read whole. Parameters as above.
DELETE FROM op_thread_reply
WHERE starts_with("rootUri", $1) AND starts_with(uri, $2) AND $3::text IS NOT NULL;

-- name: deletion_records
-- Some records of a DID. $1 DID; $2 how many.
SELECT uri FROM record WHERE did = $1 LIMIT $2;

-- name: deletion_notifications_by
-- Some of what a DID told. $1 DID; $2 how many.
DELETE FROM notification WHERE id = ANY(ARRAY(
    SELECT id FROM notification WHERE author = $1 LIMIT $2
));

-- name: deletion_notifications_to
-- Some of what a DID was told. $1 DID; $2 how many.
DELETE FROM notification WHERE id = ANY(ARRAY(
    SELECT id FROM notification WHERE did = $1 LIMIT $2
));

-- name: deletion_embedded
-- What each of these posts quotes: the first record embedded, where that is a post.
-- $1 uris of posts.
SELECT DISTINCT embed."embedUri" AS uri, embed."embedCid" AS cid
FROM unnest(($1::text)::text[]) AS wanted(uri)
CROSS JOIN LATERAL (
    SELECT "embedUri", "embedCid" FROM post_embed_record
    WHERE "postUri" = wanted.uri ORDER BY ctid LIMIT 1
) AS embed
WHERE split_part(embed."embedUri", '/', 4) = 'app.bsky.feed.post';

-- name: deletion_quotes_by
-- The quotes that these posts make, by the CID they name. $1 uris of posts.
WITH gone AS (
    DELETE FROM quote WHERE uri = ANY((SELECT ($1::text)::text[])::text[])
    RETURNING "subjectCid"
)
SELECT "subjectCid" AS cid, count(*) AS quotes FROM gone GROUP BY 1;

-- name: deletion_quotes_of
-- Others' quotes of these posts, by the CID they name. $1 uris of posts.
WITH gone AS (
    DELETE FROM quote WHERE subject = ANY((SELECT ($1::text)::text[])::text[])
    RETURNING "subjectCid"
)
SELECT "subjectCid" AS cid, count(*) AS quotes FROM gone GROUP BY 1;

-- name: deletion_posts
-- Posts; how many there were, and of how many that counted each parent was answered.
-- $1 uris of posts.
WITH gone AS (
    DELETE FROM post WHERE uri = ANY((SELECT ($1::text)::text[])::text[])
    RETURNING "replyParent", "violatesThreadGate"
)
SELECT "replyParent" AS parent, count(*) AS posts,
    count(*) FILTER (WHERE "violatesThreadGate" IS NOT TRUE) AS replies
FROM gone GROUP BY 1;
