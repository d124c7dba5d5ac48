-- The queue of repositories to fetch: what is put into it, and what became of it. {state} is the
-- quoted state schema.

-- name: queue_epochs
-- The epoch of the streams, and the one that the queue was last brought in line with.
SELECT deployment.epoch AS streams, queue.epoch AS queue
FROM {state}.deployment, {state}.queue;

-- name: queue_epoch_set
UPDATE {state}.queue SET epoch = $1, swept_at = now();

-- name: queue_asked
-- Repositories that somebody asked for. $1 how many.
SELECT did FROM {state}.repo
WHERE wanted IS NOT NULL AND queued_at IS NULL
ORDER BY did
LIMIT $1;

-- name: queue_resync
-- Repositories of which live commits are missing. $1 the last DID seen; $2 how many.
SELECT did FROM {state}.repo
WHERE resync IS NOT NULL AND did > $1 AND queued_at IS NULL AND fetch_id IS NULL
    AND next_attempt_at IS NULL AND coalesce(outcome, 'ok') IN ('ok', 'empty')
ORDER BY did
LIMIT $2;

-- name: queue_due
-- Repositories to be tried again now. $1 how many.
SELECT did FROM {state}.repo
WHERE next_attempt_at <= now() AND queued_at IS NULL
ORDER BY next_attempt_at
LIMIT $1;

-- name: queue_hosts
-- Hosts that have repositories which were never fetched; those that do not answer are left out.
WITH RECURSIVE found AS (
    (
        SELECT host FROM {state}.repo
        WHERE backfilled_rev IS NULL AND outcome IS NULL AND queued_at IS NULL AND host > ''
        ORDER BY host
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT host FROM {state}.repo
        WHERE backfilled_rev IS NULL AND outcome IS NULL AND queued_at IS NULL
            AND host > found.host
        ORDER BY host
        LIMIT 1
    )
    FROM found
    WHERE found.host IS NOT NULL
)
SELECT found.host
FROM found
LEFT JOIN {state}.host ON host.origin = found.host
WHERE found.host IS NOT NULL AND (host.parked_until IS NULL OR host.parked_until <= now())
ORDER BY host.accounts DESC NULLS LAST, found.host;

-- name: queue_new
-- The next repositories of several hosts that were never fetched. $1 hosts; $2 the last DID seen of
-- each; $3 how many of each.
SELECT asked.host, next.did
FROM unnest($1::text[], $2::text[]) AS asked (host, after)
CROSS JOIN LATERAL (
    SELECT did FROM {state}.repo
    WHERE host = asked.host AND did > asked.after
        AND backfilled_rev IS NULL AND outcome IS NULL AND queued_at IS NULL
        AND fetch_id IS NULL AND next_attempt_at IS NULL
    ORDER BY did
    LIMIT $3
) AS next;

-- name: queue_homeless
-- The same for those of no known host: live commits made them known, or a relay's list. $1 the last
-- DID seen; $2 how many.
SELECT did FROM {state}.repo
WHERE host IS NULL AND did > $1
    AND backfilled_rev IS NULL AND outcome IS NULL AND queued_at IS NULL
    AND fetch_id IS NULL AND next_attempt_at IS NULL
ORDER BY did
LIMIT $2;

-- name: queue_mark
-- They are about to be put into the queue. Rows that somebody works on are left for another time:
-- nobody waits here, and nobody for us.
WITH chosen AS (
    SELECT did FROM {state}.repo
    WHERE did = ANY($1::text[]) AND queued_at IS NULL
    ORDER BY did
    FOR UPDATE SKIP LOCKED
)
UPDATE {state}.repo SET queued_at = now(), wanted = NULL, next_attempt_at = NULL
FROM chosen
WHERE repo.did = chosen.did
RETURNING repo.did, repo.host, repo.listed_rev;

-- name: queue_refused
-- Redis did not take them. $1 DIDs.
WITH chosen AS (
    SELECT did FROM {state}.repo WHERE did = ANY($1::text[]) ORDER BY did FOR UPDATE
)
UPDATE {state}.repo SET queued_at = NULL, wanted = coalesce(wanted, 'swept')
FROM chosen
WHERE repo.did = chosen.did;

-- name: queue_unfinished
-- What is queued or being fetched, as the table says. $1 the last DID seen; $2 how many.
SELECT did, queued_at
FROM (
    (SELECT did FROM {state}.repo WHERE queued_at IS NOT NULL AND did > $1 ORDER BY did LIMIT $2)
    UNION
    (SELECT did FROM {state}.repo WHERE fetch_id IS NOT NULL AND did > $1 ORDER BY did LIMIT $2)
) AS unfinished
JOIN {state}.repo USING (did)
ORDER BY did
LIMIT $2;

-- name: queue_lost
-- They were queued and are not in the queue: not tried since, they are asked for again; tried, the
-- attempt wrote what became of it. $1 DIDs; $2 since when each was queued.
WITH chosen AS (
    SELECT repo.did
    FROM unnest($1::text[], $2::timestamptz[]) AS lost (did, queued_at)
    JOIN {state}.repo USING (did, queued_at)
    ORDER BY repo.did
    FOR UPDATE OF repo
)
UPDATE {state}.repo SET
    queued_at = NULL,
    wanted = CASE
        WHEN last_attempt_at >= queued_at THEN wanted ELSE coalesce(wanted, 'swept')
    END
FROM chosen
WHERE repo.did = chosen.did;

-- name: queue_swept
-- The streams were lost, and with them what was fetched and not yet indexed. $1 DIDs.
WITH chosen AS (
    SELECT did FROM {state}.repo
    WHERE did = ANY($1::text[]) AND (queued_at IS NOT NULL OR fetch_id IS NOT NULL)
    ORDER BY did
    FOR UPDATE
)
UPDATE {state}.repo SET
    queued_at = NULL,
    fetch_id = NULL,
    fetched_at = CASE WHEN fetch_id IS NULL THEN fetched_at END,
    outcome = CASE WHEN outcome IN ('ok', 'empty') AND fetch_id IS NOT NULL THEN NULL ELSE outcome END,
    wanted = coalesce(wanted, 'swept')
FROM chosen
WHERE repo.did = chosen.did;
