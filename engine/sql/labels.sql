-- Labels: the stream's owner and position, labelers, and the rows. {state} is the quoted state
-- schema; the data plane is on the search_path.

-- name: label_owner
-- Who owned the stream last; its backend is ended before the stream is taken.
SELECT pg_terminate_backend(a.pid, 5000)
FROM {state}.label_stream s
JOIN pg_stat_activity a ON a.pid = s.backend_pid AND a.backend_start = s.backend_start
WHERE a.pid <> pg_backend_pid();

-- name: label_claim
-- Take the stream: a former owner's token is void from here on.
UPDATE {state}.label_stream
SET token = token + 1, backend_pid = pg_backend_pid(),
    backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
RETURNING token, epoch, entry_id, entries,
    (SELECT deployment_id FROM {state}.deployment) AS deployment_id;

-- name: label_fence
-- First statement of every transaction of the owner. $1 token.
SELECT FROM {state}.label_stream WHERE token = $1 FOR UPDATE;

-- name: label_flushed
-- What this transaction commits is on disk when COMMIT returns, whatever the session's setting.
SET LOCAL synchronous_commit = on;

-- name: label_stream_new
-- The stream is made anew, empty. $1 epoch.
UPDATE {state}.label_stream SET epoch = $1, entry_id = '0-0', entries = 0;

-- name: label_stream_torn
-- The stream lost entries: the next session makes it anew. $1 token.
UPDATE {state}.label_stream SET epoch = '' WHERE token = $1;

-- name: label_stream_move
-- $1 entry id; $2 entries committed in this epoch.
UPDATE {state}.label_stream SET entry_id = $1, entries = $2, moved_at = clock_timestamp();

-- name: label_positions
-- Every life of every labeler's seqs.
SELECT id, host, generation, seq, outcomes::text AS outcomes, unverified, letters_left_out
FROM {state}.label_position ORDER BY host, generation;

-- name: label_position_add
-- A labeler is about to be read for the first time, or its seqs started anew.
-- $1 host; $2 generation; $3 whose labels it may carry.
INSERT INTO {state}.label_position (host, generation, sources) VALUES ($1, $2, $3)
ON CONFLICT (host, generation) DO NOTHING;

-- name: label_position_last
-- The life of a labeler's seqs that is now. $1 host.
SELECT generation, seq, sources FROM {state}.label_position
WHERE host = $1 ORDER BY generation DESC LIMIT 1;

-- name: label_position_sources
-- Whose labels a stream may carry, from its beginning on. $1 host; $2 generation; $3 DIDs.
UPDATE {state}.label_position SET sources = $3 WHERE host = $1 AND generation = $2;

-- name: label_position_move
-- $1 ids; $2 highest seqs held; $3 labels by outcome, as JSON; $4 unverified ones; $5 dead letters
-- that were not kept.
UPDATE {state}.label_position p
SET seq = n.seq, outcomes = n.outcomes::jsonb, unverified = n.unverified,
    letters_left_out = n.letters_left_out, moved_at = clock_timestamp()
FROM unnest($1::int[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])
    AS n (id, seq, outcomes, unverified, letters_left_out)
WHERE p.id = n.id;

-- name: label_letters
-- How many dead letters there are of each host, and their bytes. $1 hosts; $2 count no further.
SELECT h.host, count(*) AS letters, coalesce(sum(octet_length(d.raw)), 0)::bigint AS bytes
FROM (SELECT DISTINCT unnest($1::text[]) AS host) AS h
CROSS JOIN LATERAL (
    SELECT raw FROM {state}.dead_letter
    WHERE source = 'label_live' AND relay = h.host
    LIMIT $2
) AS d
GROUP BY h.host;

-- name: label_gap_add
-- $1 host; $2 generation; $3 last seq held; $4 first seq that came.
INSERT INTO {state}.label_gap (host, generation, after_seq, before_seq) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING;

-- name: label_sources
-- Through which streams each source's labels came.
SELECT src, position, first FROM {state}.label_source;

-- name: label_source_hosts
-- Whether a source's labels came from a host before. $1 source; $2 host.
SELECT EXISTS (
    SELECT FROM {state}.label_source s JOIN {state}.label_position p ON p.id = s.position
    WHERE s.src = $1 AND p.host = $2
);

-- name: label_source_known
-- Whether labels of a source are in the table.
SELECT EXISTS (SELECT FROM label WHERE src = $1);

-- name: label_source_add
-- $1 source; $2 position; $3 whether it is the source's first.
INSERT INTO {state}.label_source (src, position, first) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING;

-- name: label_discovered
-- Who declares itself a labeler, the oldest first. $1 how many.
SELECT creator FROM labeler ORDER BY "sortAt", cid LIMIT $1;

-- name: label_upsert
-- The last label of each key. $1 sources; $2 uris; $3 CIDs or ''; $4 values; $5 negations; $6 "cts";
-- $7 "exp": all verbatim.
INSERT INTO label (src, uri, cid, val, neg, cts, exp)
SELECT * FROM unnest(
    ($1::text)::text[], ($2::text)::text[], ($3::text)::text[], ($4::text)::text[],
    ($5::text)::boolean[], ($6::text)::text[], ($7::text)::text[]
)
ON CONFLICT (src, uri, cid, val) DO UPDATE
SET neg = excluded.neg, cts = excluded.cts, exp = excluded.exp;

-- name: label_contested
-- Labels that several streams speak of, and which one said them last.
-- $1 sources; $2 uris; $3 CIDs or ''; $4 values; $5 keys of their origins.
SELECT n.key, l.cts, o.position
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
    AS n (src, uri, cid, val, key)
JOIN label l ON l.src = n.src AND l.uri = n.uri AND l.cid = n.cid AND l.val = n.val
LEFT JOIN {state}.label_origin o ON o.key = n.key;

-- name: label_origin_set
-- $1 keys; $2 positions.
INSERT INTO {state}.label_origin (key, position) SELECT * FROM unnest($1::bytea[], $2::int[])
ON CONFLICT (key) DO UPDATE SET position = excluded.position;

-- name: label_origin_clear
-- These came through the first stream of their source. $1 keys.
DELETE FROM {state}.label_origin WHERE key = ANY ($1::bytea[]);
