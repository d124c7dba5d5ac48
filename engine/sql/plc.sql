-- The directory's log: written by an import and by who reads its end, looked up by everybody.

-- name: plc_buffer
-- Where an import's operations go by COPY, before they are merged.
CREATE TEMPORARY TABLE IF NOT EXISTS plc_new (
    did text, created_at timestamptz, handle text, key text, pds text
) ON COMMIT DELETE ROWS;

-- name: plc_merge
-- What was copied; the later operation of a DID wins. In DID order: two writers never lock each
-- other out.
INSERT INTO {state}.plc AS known (did, created_at, handle, key, pds)
SELECT did, created_at, handle, key, pds FROM plc_new ORDER BY did COLLATE "C"
ON CONFLICT (did) DO UPDATE SET
    created_at = excluded.created_at,
    handle = excluded.handle,
    key = excluded.key,
    pds = excluded.pds,
    doubted = false
WHERE known.created_at < excluded.created_at;

-- name: plc_take
-- The same of a page: $1 DIDs, sorted; $2 times; $3 handles; $4 keys; $5 hosts.
INSERT INTO {state}.plc AS known (did, created_at, handle, key, pds)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[])
ON CONFLICT (did) DO UPDATE SET
    created_at = excluded.created_at,
    handle = excluded.handle,
    key = excluded.key,
    pds = excluded.pds,
    doubted = false
WHERE known.created_at < excluded.created_at;

-- name: plc_cursor
SELECT read_to FROM {state}.plc_log;

-- name: plc_move
-- The cursor moves with its page, unless somebody else moved it. $1 from; $2 to; $3 whether the
-- directory has nothing more.
UPDATE {state}.plc_log SET
    read_to = $2,
    current_at = CASE WHEN $3 THEN now() ELSE current_at END
WHERE read_to = $1;

-- name: plc_imported_to
-- A file's end is the cursor, where nothing is missing between the two. $1 its first and $2 its last
-- operation.
UPDATE {state}.plc_log SET read_to = $2
WHERE read_to IS NULL OR (read_to >= $1 AND read_to < $2);

-- name: plc_progress
-- How far a file was imported. $1 digest of its beginning.
SELECT bytes AS size, last_line, lines, nullified, bad, first_at, last_at
FROM {state}.plc_import WHERE head = $1;

-- name: plc_progressed
INSERT INTO {state}.plc_import
    (head, name, bytes, last_line, lines, nullified, bad, first_at, last_at, done_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $10 THEN now() END)
ON CONFLICT (head) DO UPDATE SET
    name = excluded.name,
    bytes = excluded.bytes,
    last_line = excluded.last_line,
    lines = excluded.lines,
    nullified = excluded.nullified,
    bad = excluded.bad,
    first_at = excluded.first_at,
    last_at = excluded.last_at,
    done_at = excluded.done_at;

-- name: plc_look_up
-- Documents that may be believed: nothing while the log is not known up to a time that is recent.
-- $1 DIDs; $2 how old, in seconds, the knowledge of the log may be.
SELECT did, created_at, handle, key, pds
FROM {state}.plc
WHERE did = ANY ($1::text[]) AND NOT doubted AND pds IS NOT NULL
    AND (SELECT greatest(read_to, current_at) FROM {state}.plc_log)
        > now() - make_interval(secs => $2);

-- name: plc_doubt
-- An event says that the documents changed. $1 DIDs.
UPDATE {state}.plc SET doubted = true WHERE did = ANY ($1::text[]) AND NOT doubted;

-- name: plc_confirm
-- The directory says still what is known. $1 DID; $2 handle; $3 key; $4 host.
UPDATE {state}.plc SET doubted = false
WHERE did = $1 AND doubted AND handle = $2 AND key = $3 AND pds = $4;
