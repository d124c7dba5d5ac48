-- Looking once more at what several owners may have missed of one another. {state} is the quoted
-- state schema.

-- name: settling_look
-- Say since when what we have not committed was looked up ($3; NULL: nothing is, so from now on).
-- $1 shards; $2 tokens. Where the log is: what is looked up from now on is not older. Each time
-- this writes, so the log goes on.
WITH said AS (
    UPDATE {state}.shard AS s SET looked_at = coalesce($3::text::pg_lsn, pg_current_wal_insert_lsn())
    FROM unnest($1::int[], $2::bigint[]) AS mine (shard, token)
    WHERE s.shard = mine.shard AND s.token = mine.token
)
SELECT pg_current_wal_insert_lsn()::text;

-- name: settling_read
-- What is unsettled of these shards, the oldest first, and where the log is: not before the place at
-- which it could first be seen.
-- $1 shards; $2 how many.
SELECT id, uri, invalid, pg_current_wal_insert_lsn()::text AS seen_at
FROM {state}.unsettled
WHERE shard = ANY($1::int[])
ORDER BY id
LIMIT $2;

-- name: settling_is_over
-- Whether all that others have not committed was looked up later than that. $1 our shards; $2 where
-- the log was. Who has no backend any more commits nothing.
SELECT coalesce(bool_and(coalesce(s.looked_at > $2::text::pg_lsn, false)), true)
FROM {state}.shard s
JOIN pg_stat_activity a ON a.pid = s.backend_pid AND a.backend_start = s.backend_start
WHERE s.shard <> ALL($1::int[]);

-- name: settling_come
-- Those that are there, and of posts that had an invalid root those that have none, with their T.
-- $1 uris; $2 whether it is one of these posts.
SELECT DISTINCT wanted.uri, record."indexedAt" AS time
FROM unnest($1::text[], $2::boolean[]) AS wanted(uri, invalid)
CROSS JOIN LATERAL (
    SELECT "indexedAt" FROM record WHERE record.uri = wanted.uri OFFSET 0
) AS record
LEFT JOIN LATERAL (
    SELECT "invalidReplyRoot" FROM post WHERE post.uri = wanted.uri OFFSET 0
) AS post ON true
WHERE NOT (wanted.invalid AND post."invalidReplyRoot" IS TRUE)
ORDER BY wanted.uri;

-- name: settling_done
-- They are settled. $1 ids.
DELETE FROM {state}.unsettled WHERE id = ANY($1::bigint[]);
