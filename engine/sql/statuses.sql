-- Accounts that are called deactivated: whether their present hosts say so. Lock order: repo, actor, the note.
-- The data plane is on the search_path.

-- name: status_pick
-- What waits longest for an answer, without those in hand, and whether a later event made it void.
-- $1 how many; $2 DIDs in hand.
SELECT due.did, due.time, due.attempts, due.time IS DISTINCT FROM said.account_time AS is_stale
FROM {state}.status_due AS due
LEFT JOIN LATERAL (
    SELECT account_time FROM {state}.repo WHERE repo.did = due.did OFFSET 0
) AS said ON true
WHERE due.next_attempt_at <= now() AND due.did <> ALL ($2::text[])
ORDER BY due.next_attempt_at, due.did
LIMIT $1;

-- name: status_refuted
-- The present host says that the account is active; an event that came meanwhile stays as it is.
-- $1 DID; $2 time of the event that was asked about.
WITH said AS MATERIALIZED (
    SELECT did FROM {state}.repo WHERE did = $1 AND account_time = $2 FOR UPDATE
), done AS (
    DELETE FROM {state}.status_due WHERE did = $1 AND time = $2
)
UPDATE actor SET "upstreamStatus" = NULL
WHERE did = (SELECT did FROM said) AND "upstreamStatus" = 'deactivated';

-- name: status_stands
-- Nothing more to ask. $1 DID; $2 time of the event that was asked about.
DELETE FROM {state}.status_due WHERE did = $1 AND time = $2;

-- name: status_failed
-- Ask again later. $1 DID; $2 time of the event that was asked about; $3 why; $4 seconds to wait.
UPDATE {state}.status_due
SET attempts = attempts + 1, last_error = $3,
    next_attempt_at = now() + make_interval(secs => $4)
WHERE did = $1 AND time = $2;
