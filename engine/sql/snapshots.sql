-- Fetched repositories beside live traffic: what is on its way, and what there is to compare it with.
--
-- Every parameter is one array literal as text; every answer of a look-up one row of one
-- column: a JSON array.

-- name: lookup_fetches
-- Of which of these repositories a snapshot is on its way. $1 DIDs.
SELECT coalesce(json_agg(json_build_array(did, fetch_id)), '[]')::text
FROM {state}.repo
WHERE did = ANY((SELECT ($1::text)::text[])::text[]) AND fetch_id IS NOT NULL;

-- name: lookup_touched
-- What live ops touched of these repositories since their snapshots were asked for. $1 DIDs.
SELECT coalesce(json_agg(json_build_array(touched.did, uri, rev)), '[]')::text
FROM unnest(($1::text)::text[]) AS wanted(did)
CROSS JOIN LATERAL (
    SELECT did, uri, rev FROM {state}.touched WHERE touched.did = wanted.did OFFSET 0
) AS touched;

-- name: lookup_repo_records
-- The records of these repositories up to a uri, in byte order. $1 DIDs; $2 uris, NULL: all.
SELECT coalesce(json_agg(json_build_array(record.uri, record.cid)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(did, through)
CROSS JOIN LATERAL (
    SELECT uri, cid FROM record
    WHERE record.did = wanted.did
        AND (wanted.through IS NULL OR record.uri COLLATE "C" <= wanted.through)
    OFFSET 0
) AS record;

-- name: lookup_cids
-- Which of these records there are. $1 uris.
SELECT coalesce(json_agg(json_build_array(uri, cid)), '[]')::text
FROM record
WHERE uri = ANY((SELECT ($1::text)::text[])::text[]);

-- name: lookup_stale
-- Uris from before the first slice of a fetch, by ranges of keys. $1 DIDs; $2 uris before the
-- ranges; $3 their last uris, NULL: to the end.
SELECT coalesce(json_agg(json_build_array(wanted.did, stale.uri)), '[]')::text
FROM unnest(($1::text)::text[], ($2::text)::text[], ($3::text)::text[]) AS wanted(did, after, through)
CROSS JOIN LATERAL (
    SELECT uri FROM {state}.stale
    WHERE stale.did = wanted.did AND stale.uri > wanted.after
        AND (wanted.through IS NULL OR stale.uri <= wanted.through)
    OFFSET 0
) AS stale;

-- name: upsert_touched
-- Live ops while a snapshot is on its way. $1 DIDs, sorted, then $2 uris; $3 revs.
INSERT INTO {state}.touched AS held (did, uri, rev)
SELECT * FROM unnest(($1::text)::text[], ($2::text)::text[], ($3::text)::text[])
ON CONFLICT (did, uri) DO UPDATE SET rev = excluded.rev
WHERE held.rev COLLATE "C" < excluded.rev;

-- name: begin_fetches
-- Keep the uris that slices still to come are compared with. $1 DIDs; $2 the last uris of the slices
-- that were applied.
INSERT INTO {state}.stale (did, uri)
SELECT wanted.did, record.uri
FROM unnest(($1::text)::text[], ($2::text)::text[]) AS wanted(did, through)
CROSS JOIN LATERAL (
    SELECT uri FROM record
    WHERE record.did = wanted.did AND record.uri COLLATE "C" > wanted.through
    OFFSET 0
) AS record
ON CONFLICT DO NOTHING;

-- name: close_fetches
-- Snapshots that came to their end: what was kept for them goes. Whoever appended one may have died
-- before it said so (fetched_at): then its end is written here, and the queue, whose entry left with
-- the closing entry, is not waited for. $1 DIDs, sorted; $2 revs; $3 records; $4 trees; $5 why nothing
-- of it was indexed, NULL: all was.
WITH closed AS (
    SELECT * FROM unnest(
        ($1::text)::text[], ($2::text)::text[], ($3::text)::bigint[], ($4::text)::text[],
        ($5::text)::text[]
    ) AS closed(did, rev, records, data, refused)
), no_touched AS (
    DELETE FROM {state}.touched WHERE did = ANY((SELECT ($1::text)::text[])::text[])
), no_stale AS (
    DELETE FROM {state}.stale WHERE did = ANY((SELECT ($1::text)::text[])::text[])
)
UPDATE {state}.repo SET
    backfilled_rev = CASE WHEN refused IS NULL THEN closed.rev ELSE backfilled_rev END,
    fetch_id = NULL,
    fetch_rev = NULL,
    fetched_at = coalesce(fetched_at, now()),
    queued_at = CASE WHEN fetched_at IS NULL AND queued_at <= last_attempt_at THEN NULL ELSE queued_at END,
    records = CASE WHEN fetched_at IS NULL THEN closed.records ELSE repo.records END,
    data = CASE WHEN fetched_at IS NULL THEN closed.data ELSE repo.data END,
    attempts = CASE WHEN fetched_at IS NULL THEN 0 ELSE attempts END,
    next_attempt_at = CASE WHEN fetched_at IS NULL THEN NULL ELSE next_attempt_at END,
    outcome = CASE
        WHEN refused IS NOT NULL THEN 'poison'
        WHEN fetched_at IS NOT NULL THEN outcome
        WHEN closed.records = 0 THEN 'empty'
        ELSE 'ok'
    END,
    outcome_error = CASE
        WHEN refused IS NULL AND fetched_at IS NOT NULL THEN outcome_error ELSE coalesce(refused, '')
    END
FROM closed
WHERE repo.did = closed.did AND repo.did = ANY((SELECT ($1::text)::text[])::text[]);
