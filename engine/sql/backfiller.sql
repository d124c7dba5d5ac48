-- What a backfiller writes of the repositories that it fetches. Rows that somebody else works on (the
-- indexer locks those of its batch) are left out and taken again a moment later: nobody waits for us.

-- name: fetch_known
-- Repositories that nobody listed: pushed into the queue by hand. $1 DIDs, sorted.
INSERT INTO {state}.repo (did) SELECT unnest($1::text[]) ON CONFLICT (did) DO NOTHING;

-- name: fetch_begin
-- A fetch begins: once this is committed, live ops of the DID note what they touch. $1 DIDs.
WITH mine AS MATERIALIZED (
    SELECT did FROM {state}.repo WHERE did = ANY ($1::text[]) ORDER BY did
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {state}.repo SET
    fetch_id = nextval('{state}.fetch'),
    fetch_rev = rev,
    fetched_at = NULL,
    last_attempt_at = now()
FROM mine
WHERE repo.did = mine.did AND repo.did = ANY ($1::text[])
RETURNING repo.did, fetch_id, fetch_rev, active;

-- name: fetch_absent
-- Which have no row. $1 DIDs.
SELECT did FROM unnest($1::text[]) AS asked (did)
WHERE NOT EXISTS (SELECT FROM {state}.repo WHERE repo.did = asked.did)
ORDER BY did;

-- name: fetch_end
-- What became of attempts. Nothing is written where another fetch of the DID has begun since; what is
-- put off without having been asked for leaves a fetch under way alone.
-- $1 DIDs; $2 fetches, NULL for what was only put off; $3 outcomes, NULL: as it was; $4 errors;
-- $5 whether the closing entry was appended; $6 records and $7 tree of the snapshot, NULL: none;
-- $8 hosts, NULL: as known; $9 seconds to the next attempt, NULL: none; $10 whether it counts as a
-- failed attempt: then $9 is a part of the time that doubles with each, unless $11; $12 whether it is
-- the last in any case; $13 how many failed attempts there may be; $14 seconds after the first of
-- them, and $15 at most.
WITH new AS (
    SELECT * FROM unnest(
        $1::text[], $2::bigint[], $3::text[], $4::text[], $5::boolean[], $6::bigint[], $7::text[],
        $8::text[], $9::float8[], $10::boolean[], $11::boolean[], $12::boolean[]
    ) AS new (
        did, fetch_id, outcome, error, fetched, records, data, host, wait, counts, exact, last
    )
), mine AS MATERIALIZED (
    SELECT did FROM {state}.repo WHERE did = ANY ($1::text[]) ORDER BY did
    FOR NO KEY UPDATE SKIP LOCKED
), done AS (
    UPDATE {state}.repo SET
        fetch_id = CASE WHEN new.fetch_id IS NULL OR new.fetched THEN repo.fetch_id END,
        fetched_at = CASE WHEN new.fetched THEN now() ELSE repo.fetched_at END,
        records = coalesce(new.records, repo.records),
        data = coalesce(new.data, repo.data),
        host = coalesce(new.host, repo.host),
        -- What was fetched and is indexed already has the outcome that the indexer gave it.
        outcome = CASE
            WHEN new.fetched AND repo.fetch_id IS NULL AND repo.fetched_at IS NOT NULL
            THEN repo.outcome
            ELSE coalesce(new.outcome, repo.outcome)
        END,
        outcome_error = CASE
            WHEN new.outcome IS NULL
                OR (new.fetched AND repo.fetch_id IS NULL AND repo.fetched_at IS NOT NULL)
            THEN repo.outcome_error
            ELSE new.error
        END,
        attempts = CASE
            WHEN new.counts THEN repo.attempts + 1
            WHEN new.wait IS NULL AND NOT new.last THEN 0
            ELSE repo.attempts
        END,
        next_attempt_at = CASE
            WHEN new.last OR (new.counts AND repo.attempts + 1 >= $13) THEN NULL
            WHEN new.counts AND NOT new.exact THEN now() + make_interval(
                secs => new.wait * least($15, $14 * 2.0::float8 ^ least(repo.attempts, 40))
            )
            ELSE now() + make_interval(secs => new.wait)
        END,
        queued_at = NULL
    FROM mine JOIN new USING (did)
    WHERE repo.did = mine.did AND repo.did = ANY ($1::text[])
        AND (new.fetch_id IS NULL OR repo.fetch_id IS NULL OR repo.fetch_id = new.fetch_id)
    RETURNING repo.did, repo.attempts, repo.first_seen_at, repo.next_attempt_at IS NULL AS is_last
)
SELECT did, attempts, first_seen_at, coalesce(is_last, true) AS is_last
FROM mine LEFT JOIN done USING (did);

-- name: fetch_untouched
-- What live ops noted for fetches that ended with nothing. A statement after the one that locks the
-- rows, so that it sees what was noted until then. $1 DIDs.
DELETE FROM {state}.touched
WHERE did = ANY ($1::text[])
    AND EXISTS (SELECT FROM {state}.repo WHERE repo.did = touched.did AND fetch_id IS NULL);

-- name: letters_remove
-- Dead letters of attempts that have a newer end. $1 DIDs.
DELETE FROM {state}.dead_letter WHERE source = 'repo_backfill' AND did = ANY ($1::text[]);

-- name: letters_add
-- What will not be tried again by itself. $1 shards; $2 hosts; $3 DIDs; $4 outcomes; $5 errors;
-- $6 bytes; $7 attempts; $8 since when each is known.
INSERT INTO {state}.dead_letter (
    source, shard, relay, generation, did, reason, error, raw, attempts, first_seen_at
)
SELECT 'repo_backfill', shard, host, 0, did, reason, error, raw, attempts, first_seen_at
FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::integer[],
    $8::timestamptz[]
) AS letter (shard, host, did, reason, error, raw, attempts, first_seen_at);

-- name: host_parked
-- A host does not answer. Nobody asks it before the time is over. $1 origin; $2 seconds; $3 why.
INSERT INTO {state}.host (origin, found_by, parked_until, last_error)
VALUES ($1, 'document', now() + make_interval(secs => $2), $3)
ON CONFLICT (origin) DO UPDATE SET
    parked_until = greatest(host.parked_until, excluded.parked_until),
    last_error = excluded.last_error;

-- name: hosts_parked
-- Hosts that somebody found down, with the seconds left.
SELECT origin, extract(epoch FROM parked_until - now())::float8 AS seconds
FROM {state}.host
WHERE parked_until > now();
