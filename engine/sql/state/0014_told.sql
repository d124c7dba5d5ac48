-- What a host's list says of accounts goes to whoever owns their rows, as an #account event.
ALTER TABLE repo ADD COLUMN tell text;    -- the status to be told, or active, as of listed_at; until the
                                          -- indexer has applied an #account that is not older
CREATE INDEX repo_tell ON repo (did) WHERE tell IS NOT NULL;
UPDATE repo SET tell = CASE outcome
    WHEN 'taken_down' THEN 'takendown' WHEN 'suspended' THEN 'suspended' ELSE 'deactivated' END
WHERE listed_status IS NOT NULL AND outcome IN ('taken_down', 'suspended', 'deactivated')
    AND active IS DISTINCT FROM false AND listed_at IS NOT NULL;

CREATE OR REPLACE VIEW census AS
SELECT
    coalesce(sum(n), 0)::bigint AS known,
    coalesce(sum(queued), 0)::bigint AS queued,
    coalesce(sum(fetching), 0)::bigint AS fetching,
    coalesce(sum(fetched), 0)::bigint AS fetched,
    coalesce(sum(verified), 0)::bigint AS verified,
    coalesce(sum(indexed), 0)::bigint AS indexed,
    coalesce(sum(unfinished), 0)::bigint AS unfinished,   -- without an outcome, or with work to do now
    coalesce(
        jsonb_object_agg(outcome, n) FILTER (WHERE outcome NOT IN ('ok', 'empty')), '{}'
    ) AS failed
FROM (
    SELECT
        outcome,
        count(*) AS n,
        count(queued_at) AS queued,
        count(*) FILTER (WHERE fetch_id IS NOT NULL AND fetched_at IS NULL) AS fetching,
        count(fetched_at) AS fetched,
        count(data) AS verified,
        count(backfilled_rev) AS indexed,
        -- Not waited for: what is tried again much later, and hosts that are down for long.
        count(*) FILTER (
            WHERE queued_at IS NOT NULL OR fetch_id IS NOT NULL OR wanted IS NOT NULL
                OR tell IS NOT NULL
                OR next_attempt_at <= now() + interval '1 minute'
                OR (outcome IS NULL AND backfilled_rev IS NULL
                    AND (parked_until IS NULL OR parked_until <= now() + interval '1 minute'))
                OR (resync IS NOT NULL AND coalesce(outcome, 'ok') IN ('ok', 'empty'))
        ) AS unfinished
    FROM repo
    LEFT JOIN host ON origin = repo.host
    GROUP BY outcome
) AS by_outcome;
