-- What the firehose ingester keeps in Postgres: epochs, relays and their gaps.
-- {state} is the quoted state schema.

-- name: flushed
-- What this transaction commits is on disk when COMMIT returns, whatever the session's setting:
-- a relay's first seq must not be forgotten after frames were appended behind it.
SET LOCAL synchronous_commit = on;

-- name: deployment_lock
-- One ingester at a time decides about epochs and relays.
SELECT deployment_id, epoch, shard_count FROM {state}.deployment FOR UPDATE;

-- name: deployment_epoch
-- Whether an owner reported the streams as torn (then the epoch is empty).
SELECT epoch FROM {state}.deployment;

-- name: owners_stop
-- No owner is in the middle of a transaction when an epoch is made, and none commits what it read
-- from the old streams afterwards: so what Postgres accounts for is what the new epoch begins with.
SELECT FROM {state}.shard ORDER BY shard FOR UPDATE;

-- name: patience
-- A frozen owner is replaced after a while; until then the epoch waits.
SET LOCAL lock_timeout = '5s';

-- name: deployment_epoch_set
-- The streams were made anew.
UPDATE {state}.deployment SET epoch = $1;

-- name: relay_rewinds
-- From where each relay must be asked again if the streams are lost: the lowest seq that is
-- committed in every shard; a shard that never saw the relay counts as its first seq.
SELECT r.host, r.generation,
       min(coalesce((p.relays -> (r.host || '/' || r.generation) ->> 'seq')::bigint, r.first_seq))
           AS seq
FROM {state}.relay r
CROSS JOIN generate_series(0, $2::int - 1) AS s (shard)
LEFT JOIN {state}.position p ON p.source = $1 AND p.shard = s.shard
GROUP BY r.host, r.generation;

-- name: relay_tallies
-- Ops accounted for in Postgres, by relay generation ("host/generation").
SELECT r.key AS relay, sum(c.value::bigint)::bigint AS ops
FROM {state}.position p
CROSS JOIN LATERAL jsonb_each(p.relays) AS r (key, value)
CROSS JOIN LATERAL jsonb_each_text(r.value) AS c (key, value)
WHERE p.source = $1 AND c.key <> 'seq'
GROUP BY r.key;

-- name: relay_get
-- One relay, if it was ever read.
SELECT generation, first_seq FROM {state}.relay WHERE host = $1;

-- name: relay_any
-- Whether any relay was ever read.
SELECT EXISTS (SELECT FROM {state}.relay);

-- name: relay_add
-- A relay is about to be read for the first time.
INSERT INTO {state}.relay (host, first_seq) VALUES ($1, $2) ON CONFLICT (host) DO NOTHING;

-- name: relay_next_generation
-- The relay's seqs started anew: everything it still has is asked for again.
UPDATE {state}.relay SET generation = generation + 1, first_seq = 0, started_at = now()
WHERE host = $1 AND generation = $2
RETURNING generation;

-- name: relay_gap_add
-- Frames known, or feared, to be missing; once, however often we come back to the same place.
INSERT INTO {state}.relay_gap (host, generation, after_seq, before_seq, reason)
SELECT $1, $2, $3, $4, $5
WHERE NOT EXISTS (
    SELECT FROM {state}.relay_gap
    WHERE host = $1 AND generation = $2 AND after_seq = $3 AND reason = $5
);
