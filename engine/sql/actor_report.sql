-- What `headrace actor` asks. The data plane is on the search_path; every statement reads by key.

-- name: actor_did
-- Whose handle it is, if the database has it. $1 handle.
SELECT did FROM actor WHERE handle = $1;

-- name: actor_row
-- $1 DID.
SELECT handle, "indexedAt" AS indexed_at, "upstreamStatus" AS upstream_status, "takedownRef" AS takedown_ref
FROM actor WHERE did = $1;

-- name: actor_sync_row
-- $1 DID.
SELECT "repoRev" AS rev, "commitCid" AS commit FROM actor_sync WHERE did = $1;

-- name: actor_due
-- $1 DID.
SELECT seq, time, forced, attempts, next_attempt_at::text, last_error FROM {state}.identity_due WHERE did = $1;

-- name: actor_seat
-- By which event it has its handle, for an hour. $1 DID.
SELECT seat.handle, seat.seq, seat.seated_at::text
FROM actor JOIN {state}.seat ON seat.handle = actor.handle AND seat.did = actor.did
WHERE actor.did = $1;

-- name: actor_document
-- What the directory's log told. $1 DID.
SELECT handle, key, pds, created_at::text FROM {state}.plc WHERE did = $1;

-- name: actor_status_due
-- $1 DID.
SELECT time, attempts, next_attempt_at::text, last_error FROM {state}.status_due WHERE did = $1;

-- name: actor_deletion
-- $1 DID.
SELECT relay, generation, seq, time, rev, attempts, next_attempt_at::text, last_error,
    confirmed_at::text, started_at::text
FROM {state}.deletion WHERE did = $1;

-- name: actor_repo
-- $1 DID.
SELECT rev, account_time, identity_time, active, status, resync, host, listed_rev, listed_status,
    listed_at::text, wanted, queued_at::text, fetch_id, fetched_at::text, records, data, backfilled_rev, outcome,
    outcome_error, attempts, first_seen_at::text, last_attempt_at::text, next_attempt_at::text
FROM {state}.repo WHERE did = $1;

-- name: actor_letters
-- The newest dead letters. $1 DID; $2 how many.
SELECT source, relay, seq, path, reason, error, noted_at::text
FROM {state}.dead_letter WHERE did = $1 ORDER BY id DESC LIMIT $2;

-- name: actor_shards
SELECT shard_count FROM {state}.deployment;

-- name: actor_owner
-- Who writes what is of a shard. $1 shard.
SELECT owner FROM {state}.shard WHERE shard = $1;
