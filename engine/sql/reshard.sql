-- Changing the number of shards: drained positions become those of the new shards, in one
-- transaction. {state} is the quoted state schema.

-- name: reshard_lock
-- Nobody commits a batch and nobody makes an epoch until we are done.
SELECT shard, token FROM {state}.shard ORDER BY shard FOR UPDATE;

-- name: reshard_deployment
-- What the deployment is now.
SELECT deployment_id, epoch, shard_count FROM {state}.deployment FOR UPDATE;

-- name: reshard_positions
-- How far every shard is committed, and the outcomes it accounts for.
SELECT shard, epoch, entry_id, entries, relays::text AS relays
FROM {state}.position WHERE source = $1;

-- name: reshard_relays
-- Where each relay was begun.
SELECT host, generation, first_seq FROM {state}.relay;

-- name: reshard_clear
-- The positions of the old shards.
DELETE FROM {state}.position WHERE source = $1;

-- name: reshard_forget
DELETE FROM {state}.shard;

-- name: reshard_shards
-- New shards; $2 is above every token there was, so no former owner matches.
INSERT INTO {state}.shard (shard, token) SELECT n, $2 FROM generate_series(0, $1::int - 1) AS n;

-- name: reshard_insert
-- The positions of the new shards, at the start of streams that are still to be made.
INSERT INTO {state}.position (source, shard, relays)
SELECT $1, n.shard, n.relays::jsonb FROM unnest($2::int[], $3::text[]) AS n (shard, relays);

-- name: reshard_done
-- The streams of the new shards do not exist yet: the firehose ingester makes them.
UPDATE {state}.deployment SET shard_count = $1, epoch = '';

-- name: reshard_unsettled
-- What is unsettled may be settled by anybody.
UPDATE {state}.unsettled SET shard = 0;

-- name: reshard_deletions
-- Accounts whose deletion is under way.
SELECT did FROM {state}.deletion;

-- name: reshard_move_deletions
-- Their new shards. $1 DIDs; $2 shards.
UPDATE {state}.deletion AS asked SET shard = new.shard
FROM unnest($1::text[], $2::int[]) AS new (did, shard)
WHERE asked.did = new.did;
