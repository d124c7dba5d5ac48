-- Hosts and the repositories that they list. {state} is the quoted state schema.

-- name: host_add
-- Hosts that a relay, the settings or a document names. $1 origins; $2 accounts; $3 status; $4 who
-- named them.
INSERT INTO {state}.host (origin, accounts, status, found_by)
SELECT origin, accounts, status, $4
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS named (origin, accounts, status)
ORDER BY origin
ON CONFLICT (origin) DO UPDATE SET
    accounts = coalesce(excluded.accounts, host.accounts),
    status = coalesce(excluded.status, host.status)
WHERE (excluded.accounts, excluded.status) IS DISTINCT FROM (host.accounts, host.status);

-- name: relay_add
-- The relays of the settings: each names hosts, and its own list is the cross-check. $1 origins.
INSERT INTO {state}.host (origin, relay, found_by)
SELECT origin, true, 'settings' FROM unnest($1::text[]) AS origin ORDER BY origin
ON CONFLICT (origin) DO UPDATE SET relay = true WHERE NOT host.relay;

-- name: relay_named
-- The relay's list of hosts was read to its end.
UPDATE {state}.host SET named_at = now() WHERE origin = $1;

-- name: host_release
-- What a process of this name held before it ended.
UPDATE {state}.host SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = $1;

-- name: host_claim
-- The host that is listed next: those that answer first, then the largest; relays, whose lists
-- name no host, last. $1 who claims it; $2 seconds that the claim holds; $3 whether hosts that
-- fail are asked too.
UPDATE {state}.host SET
    claimed_by = $1,
    claimed_until = now() + make_interval(secs => $2),
    token = token + 1,
    listing = listing + (began_at IS NULL)::integer,
    listed = CASE WHEN began_at IS NULL THEN 0 ELSE listed END,
    began_at = coalesce(began_at, now())
WHERE origin = (
    SELECT origin FROM {state}.host
    WHERE (began_at IS NOT NULL OR next_at <= now())
        AND (parked_until IS NULL OR parked_until <= now())
        AND (claimed_until IS NULL OR claimed_until <= now())
        AND status IS DISTINCT FROM 'banned'
        AND (failures < 3 OR $3)
    ORDER BY failures >= 3, relay, accounts DESC NULLS LAST, parked_until NULLS FIRST, origin
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING origin, relay, accounts, token, cursor, listed, failures;

-- name: claim_renew
-- $1 origin; $2 token; $3 seconds.
UPDATE {state}.host SET claimed_until = now() + make_interval(secs => $3)
WHERE origin = $1 AND token = $2;

-- name: claims_renew
-- Everything that a process holds. $1 its name; $2 seconds.
UPDATE {state}.host SET claimed_until = now() + make_interval(secs => $2) WHERE claimed_by = $1;

-- name: host_page
-- A page was read: first statement of the transaction of its rows. $1 origin; $2 token; $3 cursor of
-- the next page; $4 repositories in it; $5 seconds that the claim holds.
UPDATE {state}.host SET
    cursor = $3,
    listed = listed + $4,
    failures = 0,
    last_error = NULL,
    parked_until = NULL,
    claimed_until = now() + make_interval(secs => $5)
WHERE origin = $1 AND token = $2;

-- name: host_done
-- The listing came to its end. $1 origin; $2 token; $3 seconds until the next one; $4 why it is not
-- whole, or NULL.
UPDATE {state}.host SET
    cursor = '',
    began_at = NULL,
    done_at = now(),
    next_at = now() + make_interval(secs => $3),
    last_error = $4,
    claimed_by = NULL,
    claimed_until = NULL
WHERE origin = $1 AND token = $2;

-- name: host_failed
-- A page could not be read. $1 origin; $2 token; $3 why; $4 seconds to leave the host alone; $5
-- whether the listing begins anew; $6 whether it counts: a host that is busy is not away.
UPDATE {state}.host SET
    failures = failures + $6::boolean::integer,
    last_error = $3,
    parked_until = now() + make_interval(secs => $4),
    cursor = CASE WHEN $5 THEN '' ELSE cursor END,
    listed = CASE WHEN $5 THEN 0 ELSE listed END,
    claimed_by = NULL,
    claimed_until = NULL
WHERE origin = $1 AND token = $2;

-- name: page_repos
-- What a page says. $1 DIDs; $2 revs; $3 status, NULL where active; $4 the outcome that follows
-- from it; $5 the PDS, NULL for a relay's page; $6 revs up to this one should be known by now; $7
-- the status that is to be told to whoever owns the account's row, NULL: none.
--
-- A host speaks for a repository if no other does, or if the other called it inactive and this one
-- does not: what is listed twice was moved. A relay speaks for those of no known host. Who does
-- not speak may bring a rev, never a status. What did not change is not written.
WITH said AS (
    INSERT INTO {state}.repo AS r (did, host, listed_rev, listed_status, listed_at, outcome, tell)
    SELECT did, $5::text, rev, status, now(), outcome, tell
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $7::text[])
        AS page (did, rev, status, outcome, tell)
    ORDER BY did
    ON CONFLICT (did) DO UPDATE SET
        host = CASE
            WHEN r.host IS NULL OR (r.listed_status IS NOT NULL AND excluded.listed_status IS NULL)
            THEN coalesce(excluded.host, r.host)
            ELSE r.host
        END,
        listed_rev = greatest(excluded.listed_rev COLLATE "C", r.listed_rev COLLATE "C"),
        listed_status = CASE
            WHEN excluded.host IS NOT NULL OR r.host IS NULL THEN excluded.listed_status
            ELSE r.listed_status
        END,
        listed_at = now(),
        outcome = CASE
            WHEN excluded.outcome IS NOT NULL AND (excluded.host IS NOT NULL OR r.host IS NULL)
                AND coalesce(r.outcome, 'transient') = 'transient'
                AND r.backfilled_rev IS NULL AND r.queued_at IS NULL AND r.fetch_id IS NULL
            THEN excluded.outcome
            WHEN excluded.outcome IS NULL
                AND r.outcome NOT IN ('ok', 'empty', 'transient')
                AND ((r.listed_status IS NOT NULL AND (excluded.host IS NOT NULL OR r.host IS NULL))
                    OR excluded.listed_rev COLLATE "C" > r.listed_rev COLLATE "C")
            THEN NULL
            ELSE r.outcome
        END,
        -- Active again is told where the list had said otherwise, for then it was we who told.
        tell = CASE
            WHEN (excluded.host IS NULL AND r.host IS NOT NULL)
                OR excluded.listed_status IS NOT DISTINCT FROM r.listed_status
            THEN r.tell
            WHEN excluded.listed_status IS NULL
            THEN CASE WHEN r.tell IS NOT NULL OR NOT r.active THEN 'active' END
            WHEN r.active OR r.active IS NULL OR r.status IS DISTINCT FROM excluded.tell
            THEN excluded.tell
        END,
        next_attempt_at = CASE
            WHEN excluded.outcome IS NOT NULL AND (excluded.host IS NOT NULL OR r.host IS NULL)
                AND r.backfilled_rev IS NULL AND r.queued_at IS NULL AND r.fetch_id IS NULL
            THEN NULL
            ELSE r.next_attempt_at
        END,
        wanted = CASE
            WHEN r.wanted IS NULL AND r.queued_at IS NULL AND r.fetch_id IS NULL
                AND r.backfilled_rev IS NOT NULL AND excluded.outcome IS NULL
                AND excluded.listed_rev COLLATE "C"
                    > greatest(r.backfilled_rev COLLATE "C", r.rev COLLATE "C")
                AND excluded.listed_rev COLLATE "C" <= $6
            THEN 'listed'
            ELSE r.wanted
        END
    WHERE (
            r.host IS NULL OR excluded.host IS NULL OR r.host = excluded.host
            OR (r.listed_status IS NOT NULL AND excluded.listed_status IS NULL)
        ) AND (
            (r.host IS NULL AND excluded.host IS NOT NULL)
            OR ((excluded.host IS NOT NULL OR r.host IS NULL)
                AND r.listed_status IS DISTINCT FROM excluded.listed_status)
            OR excluded.listed_rev COLLATE "C" > coalesce(r.listed_rev COLLATE "C", '')
            OR (r.wanted IS NULL AND r.queued_at IS NULL AND r.fetch_id IS NULL
                AND r.backfilled_rev IS NOT NULL AND excluded.outcome IS NULL
                AND excluded.listed_rev COLLATE "C"
                    > greatest(r.backfilled_rev COLLATE "C", r.rev COLLATE "C")
                AND excluded.listed_rev COLLATE "C" <= $6)
        )
    RETURNING (xmax = 0) AS is_new
)
SELECT count(*) FILTER (WHERE is_new) AS new FROM said;

-- name: untold
-- What lists say of accounts and nobody was told, or whose owner has not come to it. $1 how many.
SELECT did, tell, listed_at, host FROM {state}.repo
WHERE tell IS NOT NULL
ORDER BY did
LIMIT $1;

-- name: told
-- An #account that is not older is applied. $1 DIDs; $2 what each was told; $3 as of when. Rows that
-- somebody works on are left for another time.
WITH mine AS (
    SELECT repo.did
    FROM unnest($1::text[], $2::text[], $3::text[]) AS said (did, tell, at)
    JOIN {state}.repo USING (did, tell)
    WHERE repo.account_time COLLATE "C" >= said.at
    ORDER BY repo.did
    FOR NO KEY UPDATE OF repo SKIP LOCKED
)
UPDATE {state}.repo SET tell = NULL FROM mine WHERE repo.did = mine.did;

-- name: untell
-- It was not for that host to say. $1 DIDs; $2 what would have been told.
WITH mine AS (
    SELECT repo.did FROM unnest($1::text[], $2::text[]) AS said (did, tell)
    JOIN {state}.repo USING (did, tell)
    ORDER BY repo.did
    FOR NO KEY UPDATE OF repo SKIP LOCKED
)
UPDATE {state}.repo SET tell = NULL FROM mine WHERE repo.did = mine.did;

-- name: gap_add
-- One repository was stepped over. $1 origin; $2 cursor before it; $3 where the listing went on, or
-- '' where it cannot; $4 what was answered.
INSERT INTO {state}.listing_gap (origin, after_cursor, until_cursor, last_error)
VALUES ($1, $2, $3, $4)
ON CONFLICT (origin, after_cursor) DO UPDATE SET
    until_cursor = excluded.until_cursor, last_error = excluded.last_error;

-- name: gap_passed
-- A listing that stood before something it could not step over went on.
DELETE FROM {state}.listing_gap WHERE origin = $1 AND until_cursor = '';

-- name: gap_due
-- Gaps to ask for again, of hosts that answer.
SELECT gap.origin, gap.after_cursor, gap.until_cursor, gap.attempts, host.relay
FROM {state}.listing_gap AS gap
JOIN {state}.host USING (origin)
WHERE gap.next_attempt_at <= now() AND gap.until_cursor <> ''
    AND (host.parked_until IS NULL OR host.parked_until <= now())
ORDER BY gap.next_attempt_at
LIMIT 20;

-- name: gap_failed
-- $1 origin; $2 cursor before it; $3 why; $4 seconds until it is asked for again.
UPDATE {state}.listing_gap SET
    attempts = attempts + 1, last_error = $3,
    next_attempt_at = now() + make_interval(secs => $4)
WHERE origin = $1 AND after_cursor = $2;

-- name: gap_done
DELETE FROM {state}.listing_gap WHERE origin = $1 AND after_cursor = $2;

-- name: census_keep
-- The census is one scan of all repositories: its last reading is kept for whoever asks.
UPDATE {state}.queue SET census = (SELECT to_jsonb(counts) FROM {state}.census AS counts), census_at = now();
