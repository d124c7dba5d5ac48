-- Making our own schema and the rows that a deployment starts with. {state} is the quoted schema.

-- name: state_lock
-- One process at a time; released with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended($1, 0));

-- name: schema_create
CREATE SCHEMA {state};

-- name: migration_table
-- Which migrations were applied.
CREATE TABLE IF NOT EXISTS {state}.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: migrations
SELECT number, name FROM {state}.migration;

-- name: migration_insert
INSERT INTO {state}.migration (number, name) VALUES ($1, $2);

-- name: deployment_insert
-- The deployment's name and shape, chosen once.
INSERT INTO {state}.deployment (deployment_id, shard_count) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: deployment
SELECT deployment_id, shard_count FROM {state}.deployment;

-- name: shards_insert
INSERT INTO {state}.shard (shard)
SELECT generate_series(0, $1::integer - 1)
ON CONFLICT DO NOTHING;

-- name: positions_insert
INSERT INTO {state}.position (source, shard)
SELECT source, shard
FROM unnest($1::text[]) AS source, generate_series(0, $2::integer - 1) AS shard
ON CONFLICT DO NOTHING;
