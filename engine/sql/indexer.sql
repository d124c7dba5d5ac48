-- What the indexer reads and writes beside the tables of the collections.
--
-- Every parameter but those of scalars is one array literal as text: no list of
-- values crosses the driver. A look-up answers one row of one column: a JSON array.
-- ``(SELECT ...)`` reads a literal once, and not again for each row that it is compared with.

-- name: lookup_repos
-- What is applied of these repositories, locked in DID order until the end of the transaction.
-- $1 DIDs.
WITH locked AS (
    SELECT did, rev, resync, account_time, identity_time, active, status
    FROM {state}.repo
    WHERE did = ANY((SELECT ($1::text)::text[])::text[])
    ORDER BY did
    FOR UPDATE
)
SELECT coalesce(json_agg(json_build_array(
    did, rev, resync, account_time, identity_time, active, status
)), '[]')::text
FROM locked;

-- name: lookup_repos_unlocked
-- The same for a batch that is prepared while another is written: waits for nobody.
-- $1 DIDs.
SELECT coalesce(json_agg(json_build_array(
    did, rev, resync, account_time, identity_time, active, status
)), '[]')::text
FROM {state}.repo
WHERE did = ANY((SELECT ($1::text)::text[])::text[]);

-- name: lookup_actors
-- Which actors have a row, whether it has a handle, its time, and the time of a look-up still due.
-- $1 DIDs.
SELECT coalesce(json_agg(json_build_array(
    actor.did, actor.handle IS NOT NULL, actor."indexedAt", due.time
)), '[]')::text
FROM actor
LEFT JOIN LATERAL (
    SELECT time FROM {state}.identity_due WHERE did = actor.did OFFSET 0
) AS due ON true
WHERE actor.did = ANY((SELECT ($1::text)::text[])::text[]);

-- name: upsert_repos
-- What is applied of a repository, as a whole: its row is locked or did not exist. Answers the
-- repositories of which a snapshot is on its way, and its fetch, as JSON.
-- $1 DIDs, sorted; $2 revs; $3 reasons of a resync; $4, $5 times of account and identity events;
-- $6 active; $7 status.
WITH moved AS (
    INSERT INTO {state}.repo (did, rev, resync, account_time, identity_time, active, status)
    SELECT * FROM unnest(
        ($1::text)::text[], ($2::text)::text[], ($3::text)::text[], ($4::text)::text[],
        ($5::text)::text[], ($6::text)::boolean[], ($7::text)::text[]
    )
    ON CONFLICT (did) DO UPDATE SET
        rev = excluded.rev,
        resync = excluded.resync,
        account_time = excluded.account_time,
        identity_time = excluded.identity_time,
        active = excluded.active,
        status = excluded.status
    RETURNING did, fetch_id
)
SELECT coalesce(
    json_agg(json_build_array(did, fetch_id)) FILTER (WHERE fetch_id IS NOT NULL), '[]'
)::text
FROM moved;

-- name: insert_actors
-- Actors seen for the first time; the identity role fills the handle in, and asks the present hosts of
-- those that are called deactivated (the repositories' rows are written before).
-- $1 DIDs, sorted; $2 times; $3 status of the account upstream.
WITH asked AS (
    INSERT INTO {state}.status_due AS due (did, time)
    SELECT new.did, said.account_time
    FROM unnest(($1::text)::text[], ($3::text)::text[]) AS new(did, status)
    CROSS JOIN LATERAL (
        SELECT account_time FROM {state}.repo
        WHERE repo.did = new.did AND account_time IS NOT NULL OFFSET 0
    ) AS said
    WHERE new.status = 'deactivated'
    ON CONFLICT (did) DO UPDATE SET
        time = excluded.time, attempts = 0, next_attempt_at = now(), last_error = NULL
)
INSERT INTO actor (did, "indexedAt", "upstreamStatus")
SELECT * FROM unnest(($1::text)::text[], ($2::text)::text[], ($3::text)::text[])
ON CONFLICT (did) DO NOTHING;

-- name: update_actor_status
-- The status of accounts as their hosts say; NULL is active. Deactivated ones as above.
-- $1 DIDs, sorted; $2 status.
WITH asked AS (
    INSERT INTO {state}.status_due AS due (did, time)
    SELECT new.did, said.account_time
    FROM unnest(($1::text)::text[], ($2::text)::text[]) AS new(did, status)
    CROSS JOIN LATERAL (
        SELECT account_time FROM {state}.repo
        WHERE repo.did = new.did AND account_time IS NOT NULL OFFSET 0
    ) AS said
    WHERE new.status = 'deactivated'
    ON CONFLICT (did) DO UPDATE SET
        time = excluded.time, attempts = 0, next_attempt_at = now(), last_error = NULL
)
UPDATE actor SET "upstreamStatus" = new.status
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS new(did, status)
WHERE actor.did = new.did AND actor.did = ANY((SELECT ($1::text)::text[])::text[]);

-- name: upsert_actor_sync
-- The commit a repository is at; a rev never goes backwards.
-- $1 DIDs, sorted; $2 CIDs of commits; $3 revs.
INSERT INTO actor_sync (did, "commitCid", "repoRev")
SELECT * FROM unnest(($1::text)::text[], ($2::text)::text[], ($3::text)::text[])
ON CONFLICT (did) DO UPDATE SET
    "commitCid" = excluded."commitCid",
    "repoRev" = excluded."repoRev"
WHERE actor_sync."repoRev" IS NULL
    OR actor_sync."repoRev" COLLATE "C" <= excluded."repoRev";

-- name: upsert_identity_due
-- Identities to look up: the last event to ask wins and starts afresh, whatever relay's seq it has;
-- a forced look-up stays forced.
-- $1 DIDs, sorted; $2 seqs; $3 times; $4 forced.
INSERT INTO {state}.identity_due AS due (did, seq, time, forced)
SELECT * FROM unnest(
    ($1::text)::text[], ($2::text)::bigint[], ($3::text)::text[], ($4::text)::boolean[]
)
ON CONFLICT (did) DO UPDATE SET
    seq = excluded.seq,
    time = excluded.time,
    forced = due.forced OR excluded.forced,
    attempts = 0,
    next_attempt_at = now(),
    last_error = NULL;

-- name: upsert_deletions
-- Accounts called deleted; the last event of each is the one to be confirmed.
-- $1 DIDs, sorted; $2 shards; $3 relays; $4 generations; $5 seqs; $6 times; $7 revs applied before.
INSERT INTO {state}.deletion (did, shard, relay, generation, seq, time, rev)
SELECT * FROM unnest(
    ($1::text)::text[], ($2::text)::integer[], ($3::text)::text[], ($4::text)::integer[],
    ($5::text)::bigint[], ($6::text)::text[], ($7::text)::text[]
)
ON CONFLICT (did) DO UPDATE SET
    shard = excluded.shard,
    relay = excluded.relay,
    generation = excluded.generation,
    seq = excluded.seq,
    time = excluded.time,
    rev = excluded.rev,
    attempts = 0,
    next_attempt_at = now(),
    last_error = NULL,
    confirmed_at = NULL,
    started_at = NULL;

-- name: insert_dead_letters
-- Data that could not be indexed, with its bytes.
-- $1 sources; $2 shards; $3 relays; $4 generations; $5 seqs; $6 DIDs; $7 paths; $8 CIDs;
-- $9 reasons; $10 errors; $11 raw bytes.
INSERT INTO {state}.dead_letter
    (source, shard, relay, generation, seq, did, path, cid, reason, error, raw)
SELECT * FROM unnest(
    ($1::text)::text[], ($2::text)::integer[], ($3::text)::text[], ($4::text)::integer[],
    ($5::text)::bigint[], ($6::text)::text[], ($7::text)::text[], ($8::text)::text[],
    ($9::text)::text[], ($10::text)::text[], ($11::text)::bytea[]
);
