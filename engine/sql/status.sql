-- What `headrace status` asks Postgres. {state} is the quoted state schema.

-- name: status
-- Everything in one statement, hence of one instant.
SELECT
    (SELECT epoch FROM {state}.deployment) AS epoch,
    (SELECT shard_count FROM {state}.deployment) AS shard_count,
    (SELECT coalesce(json_agg(json_build_array(host, generation, first_seq)), '[]')::text
     FROM {state}.relay) AS relays,
    (SELECT coalesce(json_object_agg(source, shards), '{}')::text
     FROM (
        SELECT source, json_agg(json_build_array(
            shard, epoch, entry_id, relays, entries,
            round(extract(epoch FROM clock_timestamp() - moved_at), 3))) AS shards
        FROM {state}.position
        GROUP BY source
     ) AS sources) AS positions,
    (SELECT coalesce(json_agg(json_build_array(shard, owner)), '[]')::text
     FROM {state}.shard) AS owners,
    (SELECT coalesce(json_agg(json_build_array(
                host, generation, after_seq, before_seq, reason, noted_at) ORDER BY id DESC), '[]')::text
     FROM (SELECT * FROM {state}.relay_gap ORDER BY id DESC LIMIT 20) newest) AS gaps,
    (SELECT count(*) FROM {state}.identity_due
     WHERE attempts = 0 OR next_attempt_at <= now()) AS due,
    (SELECT count(*) FROM {state}.identity_due
     WHERE attempts > 0 AND next_attempt_at > now()) AS later,
    (SELECT count(*) FROM {state}.deletion
     WHERE confirmed_at IS NOT NULL OR attempts = 0 OR next_attempt_at <= now()) AS deletions_due,
    (SELECT count(*) FROM {state}.deletion
     WHERE confirmed_at IS NULL AND attempts > 0 AND next_attempt_at > now()) AS deletions_later,
    (SELECT count(*) FROM {state}.unsettled) AS unsettled,
    (SELECT coalesce(json_object_agg(reason, n ORDER BY reason), '{}')::text
     FROM (SELECT reason, count(*) AS n FROM {state}.dead_letter GROUP BY reason) letters)
        AS dead_letters,
    (SELECT count(*) FROM {state}.repo WHERE resync IS NOT NULL) AS resync,
    (SELECT json_build_object(
        'epoch', s.epoch,
        'entry_id', s.entry_id,
        'positions', (
            SELECT coalesce(json_agg(json_build_object(
                'host', host, 'generation', generation, 'seq', seq, 'outcomes', outcomes,
                'unverified', unverified, 'letters_left_out', letters_left_out)
                ORDER BY host, generation), '[]')
            FROM {state}.label_position),
        'gap_counts', (
            SELECT coalesce(json_object_agg(host, n), '{}')
            FROM (SELECT host, count(*) AS n FROM {state}.label_gap GROUP BY host) counted),
        'gaps', (
            SELECT coalesce(json_agg(json_build_array(
                host, generation, after_seq, before_seq, noted_at) ORDER BY noted_at DESC), '[]')
            FROM (SELECT * FROM {state}.label_gap ORDER BY noted_at DESC LIMIT 20) newest)
     )::text FROM {state}.label_stream s) AS labels,
    counted.census::text AS census,
    counted.age::float8 AS census_age,
    -- What a host listed before it was done is counted.
    coalesce(
        counted.age = 0
            OR counted.counted_at > (SELECT max(done_at) FROM {state}.host),
        false
    ) AS census_complete,
    (SELECT row_to_json(counts)::text FROM {state}.host_census AS counts) AS hosts
FROM (
    -- The scan of a small table takes a few milliseconds: up to 16 MiB.
    SELECT to_jsonb(counts) AS census, now() AS counted_at, 0.0 AS age
    FROM {state}.census AS counts
    WHERE coalesce(pg_relation_size((SELECT tableoid FROM {state}.repo LIMIT 1)), 0) < 16777216
    UNION ALL
    SELECT census, census_at, round(extract(epoch FROM clock_timestamp() - census_at), 3)
    FROM {state}.queue
    WHERE pg_relation_size((SELECT tableoid FROM {state}.repo LIMIT 1)) >= 16777216
) AS counted;
