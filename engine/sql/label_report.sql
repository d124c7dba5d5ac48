-- What is known of a labelled subject. {state} is the quoted state schema; the data plane is on
-- the search_path.

-- name: labels
-- Its labels, and the stream each came through. $1 uri.
SELECT l.src, l.uri, l.cid, l.val, l.neg, l.cts, l.exp, p.host, p.generation, p.seq AS held_seq,
    p.started_at::text AS read_since, p.moved_at::text AS last_written_at,
    coalesce((p.outcomes ->> 'applied')::bigint, 0) AS applied, coalesce(p.unverified, 0) AS unverified
FROM label l
LEFT JOIN {state}.label_source s ON s.src = l.src AND s.first
LEFT JOIN {state}.label_origin o ON o.key = substring(sha256(
    convert_to(l.src, 'UTF8') || '\x00'::bytea || convert_to(l.uri, 'UTF8') || '\x00'::bytea
    || convert_to(l.cid, 'UTF8') || '\x00'::bytea || convert_to(l.val, 'UTF8')) FOR 16)
LEFT JOIN {state}.label_position p ON p.id = coalesce(o.position, s.position)
WHERE l.uri = $1
ORDER BY l.src, l.val, l.cid;

-- name: letters
-- Labels of it that could not be indexed, the newest first. $1 uri; $2 how many.
SELECT did AS src, relay AS host, seq, reason, error, noted_at::text AS noted_at
FROM {state}.dead_letter
WHERE source = 'label_live' AND path = $1
ORDER BY id DESC
LIMIT $2;

-- name: letter_count
-- How many there are. $1 uri.
SELECT count(*) FROM {state}.dead_letter WHERE source = 'label_live' AND path = $1;
