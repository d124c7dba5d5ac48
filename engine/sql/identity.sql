-- Identities to look up, and what a look-up writes. The data plane is on the search_path.

-- name: identity_pick
-- The identities that are due longest, without those in hand.
-- $1 how many; $2 DIDs in hand.
SELECT did, seq, time, attempts, forced
FROM {state}.identity_due
WHERE next_attempt_at <= now() AND did <> ALL ($2::text[])
ORDER BY next_attempt_at, did
LIMIT $1;

-- name: identity_wanted
-- Whether a DID is still to be looked up: a deleted account is not, and must not get its row back.
-- $1 DID.
SELECT EXISTS (SELECT FROM {state}.identity_due WHERE did = $1);

-- name: identity_lock
-- The actor and whoever holds its handle, locked in DID order.
-- $1 DID; $2 handle or NULL.
SELECT did, handle FROM actor WHERE did = $1 OR handle = $2 ORDER BY did FOR UPDATE;

-- name: identity_outranked
-- Whether a handle belongs to another actor because of a newer event, lately. Their rows are locked.
-- $1 DID; $2 handle; $3 seq of the event that asked.
SELECT EXISTS (
    SELECT FROM {state}.seat
    JOIN actor ON actor.did = seat.did AND actor.handle = seat.handle
    WHERE seat.handle = $2 AND seat.did <> $1 AND seat.seq > $3
);

-- name: identity_keep_seat
-- Remember for which event a handle was given. $1 DID; $2 handle; $3 seq of the event that asked.
INSERT INTO {state}.seat (handle, did, seq) VALUES ($2, $1, $3)
ON CONFLICT (handle) DO UPDATE SET did = excluded.did, seq = excluded.seq, seated_at = now();

-- name: identity_forget_seats
-- Some of what is older than any look-up that may still be under way. $1 how old; $2 how many.
DELETE FROM {state}.seat WHERE handle = ANY(ARRAY(
    SELECT handle FROM {state}.seat WHERE seated_at < now() - $1::interval
    ORDER BY seated_at LIMIT $2
));

-- name: identity_unseat
-- Take a handle from its former holder; when that one was looked up stays as it was.
-- $1 DID; $2 handle.
UPDATE actor SET handle = NULL WHERE handle = $2 AND did <> $1;

-- name: identity_seat
-- The handle of an actor, as of the event that asked for it.
-- $1 DID; $2 handle or NULL; $3 time of the event.
INSERT INTO actor (did, handle, "indexedAt") VALUES ($1, $2, $3)
ON CONFLICT (did) DO UPDATE SET handle = excluded.handle, "indexedAt" = excluded."indexedAt";

-- name: identity_done
-- Nothing more to look up, unless a newer event asked meanwhile.
-- $1 DID; $2 seq and $3 time of the event that asked: seqs of several relays may be equal.
DELETE FROM {state}.identity_due WHERE did = $1 AND seq = $2 AND time = $3;

-- name: identity_failed
-- Try again later; a newer event that asked meanwhile is tried at once.
-- $1 DID; $2 seq and $3 time of the event that asked; $4 why; $5 seconds to wait.
UPDATE {state}.identity_due
SET attempts = attempts + 1, last_error = $4,
    next_attempt_at = now() + make_interval(secs => $5)
WHERE did = $1 AND seq = $2 AND time = $3;
