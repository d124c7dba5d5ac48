-- Repositories that an operator wants fetched, whatever became of them before. Every statement ends
-- with what was asked for as wanted: the feeder does the rest. {state} is the quoted state schema.

-- name: enqueue_dids
-- $1 DIDs, known or not; how many of them.
WITH asked AS (
    INSERT INTO {state}.repo (did, wanted)
    SELECT did, 'enqueued' FROM unnest($1::text[]) AS did ORDER BY did
    ON CONFLICT (did) DO UPDATE SET
        wanted = 'enqueued',
        outcome = CASE WHEN repo.fetch_id IS NULL AND repo.outcome NOT IN ('ok', 'empty')
            THEN NULL ELSE repo.outcome END,
        attempts = 0,
        next_attempt_at = NULL
    RETURNING did
)
SELECT count(*) FROM asked;

-- name: enqueue_host
-- The next repositories of a host. $1 origin; $2 the last DID seen; $3 how many.
SELECT did FROM {state}.repo WHERE host = $1 AND did > $2 ORDER BY did LIMIT $3;

-- name: enqueue_list
-- The host is listed now, too, and known from now on. $1 origin.
INSERT INTO {state}.host (origin, found_by) VALUES ($1, 'enqueue')
ON CONFLICT (origin) DO UPDATE SET
    next_at = now(), parked_until = NULL, failures = 0,
    status = nullif(host.status, 'banned');

-- name: enqueue_missing
-- The next repositories that were never indexed and that nobody will try again by himself: with an
-- outcome other than those that say there is nothing. $1 the last DID seen; $2 how many.
SELECT did FROM {state}.repo
WHERE did > $1 AND backfilled_rev IS NULL AND queued_at IS NULL AND fetch_id IS NULL
    AND wanted IS NULL
    AND outcome NOT IN ('ok', 'empty', 'gone', 'taken_down', 'suspended', 'deactivated')
ORDER BY did
LIMIT $2;
