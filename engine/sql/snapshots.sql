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
-- Snapshots that are wholly indexed: what was kept for them goes. The backfiller that fetched them may
-- have died between the closing entry, with which its queue entry went, and the row that says so: then
-- we say it. $1 DIDs, sorted; $2 revs.
WITH closed AS (
    SELECT * FROM unnest(($1::text)::text[], ($2::text)::text[]) AS closed(did, rev)
), no_touched AS (
    DELETE FROM {state}.touched WHERE did = ANY((SELECT ($1::text)::text[])::text[])
), no_stale AS (
    DELETE FROM {state}.stale WHERE did = ANY((SELECT ($1::text)::text[])::text[])
)
UPDATE {state}.repo SET
    backfilled_rev = closed.rev,
    fetch_id = NULL,
    fetch_rev = NULL,
    fetched_at = coalesce(fetched_at, now()),
    outcome = coalesce(outcome, 'ok'),
    queued_at = CASE WHEN queued_at > last_attempt_at THEN queued_at END
FROM closed
WHERE repo.did = closed.did AND repo.did = ANY((SELECT ($1::text)::text[])::text[]);
