-- Ownership and positions of shards. {state} is the quoted state schema.

-- name: shard_owners
-- Who owns these shards, and whether that owner's backend still exists.
SELECT s.shard, s.token, s.owner, s.backend_pid, s.backend_start,
       coalesce(s.renewed_at > now() - $2::interval, false) AS fresh,
       a.pid IS NOT NULL AS alive
FROM {state}.shard s
LEFT JOIN pg_stat_activity a ON a.pid = s.backend_pid AND a.backend_start = s.backend_start
WHERE s.shard = ANY($1::int[])
ORDER BY s.shard;

-- name: shard_terminate
-- End a former owner's backend, so that its open transaction neither commits nor blocks.
SELECT pg_terminate_backend(pid, 5000)
FROM pg_stat_activity
WHERE pid = $1 AND backend_start = $2;

-- name: shard_claim
-- Take shards whose token is still the one that was looked at.
UPDATE {state}.shard s
SET token = s.token + 1, owner = $3, renewed_at = now(), backend_pid = pg_backend_pid(),
    looked_at = pg_current_wal_insert_lsn(),
    backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
FROM unnest($1::int[], $2::bigint[]) AS seen (shard, token)
WHERE s.shard = seen.shard AND s.token = seen.token
RETURNING s.shard, s.token;

-- name: shard_count
-- How many shards there are.
SELECT count(*) FROM {state}.shard;

-- name: shard_renew
-- Say that the owner is alive; fewer rows than shards means that some were taken.
UPDATE {state}.shard s SET renewed_at = now()
FROM unnest($1::int[], $2::bigint[]) AS mine (shard, token)
WHERE s.shard = mine.shard AND s.token = mine.token
RETURNING s.shard;

-- name: shard_release
-- Give shards back, so that the next owner need not wait for the lease to run out.
UPDATE {state}.shard s SET owner = NULL, backend_pid = NULL, backend_start = NULL, renewed_at = NULL
FROM unnest($1::int[], $2::bigint[]) AS mine (shard, token)
WHERE s.shard = mine.shard AND s.token = mine.token;

-- name: shard_lock
-- First statement of every writing transaction: the fence against a former owner.
SELECT s.shard
FROM {state}.shard s
JOIN unnest($1::int[], $2::bigint[]) AS mine (shard, token) USING (shard, token)
ORDER BY s.shard
FOR SHARE OF s;

-- name: position_load
-- Committed positions of one source.
SELECT shard, epoch, entry_id, entries, relays::text AS relays
FROM {state}.position
WHERE source = $1 AND shard = ANY($2::int[]);

-- name: position_store
-- Move positions; part of the transaction of the rows they stand for. Fewer rows than positions
-- means that the streams were made anew: what was read from the old ones comes again. This is
-- exact because the caller holds its shard rows, which whoever makes an epoch locks first.
UPDATE {state}.position p
SET epoch = n.epoch, entry_id = n.entry_id, entries = n.entries, relays = n.relays::jsonb,
    moved_at = clock_timestamp()
FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[], $6::text[])
    AS n (shard, epoch, entry_id, entries, relays)
WHERE p.source = $1 AND p.shard = n.shard
  AND n.epoch = (SELECT epoch FROM {state}.deployment);

-- name: deployment_epoch
-- Which life of the streams the positions may speak of.
SELECT deployment_id, epoch FROM {state}.deployment;

-- name: deployment_torn
-- Report the streams as torn; the firehose ingester then rewinds and makes a new epoch.
UPDATE {state}.deployment SET epoch = '' WHERE epoch = $1;

-- name: wal_lsn
-- How far commits are flushed, and a point that is not before any commit made until now.
SELECT pg_current_wal_flush_lsn()::text AS flushed, pg_current_wal_insert_lsn()::text AS inserted;

-- name: relay_generations
-- The relays and the generation of each one's seq numbers.
SELECT host, generation FROM {state}.relay;

-- name: indexer_seen
-- Join, or say that we are still here; the names of all that were seen lately ($2 how lately),
-- and the number of shards they share.
WITH me AS (
    INSERT INTO {state}.indexer (name) VALUES ($1)
    ON CONFLICT (name) DO UPDATE SET seen_at = now()
    RETURNING name
)
SELECT name, (SELECT shard_count FROM {state}.deployment) AS shard_count
FROM (
    SELECT name FROM me
    UNION
    SELECT name FROM {state}.indexer WHERE seen_at > now() - $2::interval
) AS here;

-- name: indexer_leave
-- Give our place up; forget also who has been away for long.
DELETE FROM {state}.indexer WHERE name = $1 OR seen_at < now() - interval '1 day';
