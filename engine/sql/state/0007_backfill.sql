-- What backfill knows of each repository, and of the hosts that list them. The queue in Redis is
-- made from it and can be thrown away.
--
-- A repository is fetched when it is not queued and no snapshot of it is on its way, and one of:
-- resync IS NOT NULL and the last attempt did not end for good; wanted IS NOT NULL;
-- backfilled_rev IS NULL AND outcome IS NULL; next_attempt_at is past.
--
-- A live commit changes rev, account_time, identity_time, active and status, and resync seldom: no
-- index holds the first five, neither as key nor in its condition, so its update stays in its page.
CREATE SEQUENCE "fetch";

ALTER TABLE repo
    ADD COLUMN host text,                     -- origin of the PDS that listed it or that its document names
    ADD COLUMN listed_rev text,               -- as the last listing said, like the next two
    ADD COLUMN listed_status text,            -- NULL: active
    ADD COLUMN listed_at timestamptz,
    ADD COLUMN wanted text,                   -- why it must be fetched, until it is queued: listed, enqueued,
                                              -- swept; of who fetches nobody needs to touch it
    ADD COLUMN queued_at timestamptz,         -- since when it is in the queue; NULL: it is not
    ADD COLUMN fetch_id bigint,               -- of the snapshot on its way, from the sequence fetch; NULL: none
    ADD COLUMN fetch_rev text,                -- rev when that fetch began: an older snapshot is stale
    ADD COLUMN fetched_at timestamptz,        -- when the closing entry of this or the last fetch was appended;
                                              -- NULL from the begin of a fetch until then
    ADD COLUMN records bigint,                -- in the last snapshot that was verified, like the next
    ADD COLUMN data text,                     -- CID of its tree
    ADD COLUMN backfilled_rev text,           -- of the last snapshot wholly indexed: the indexer alone writes it
    ADD COLUMN outcome text,                  -- of the last attempt: ok empty gone taken_down suspended
                                              -- deactivated migrated transient poison
    ADD COLUMN outcome_error text,
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,  -- since the last success
    ADD COLUMN first_seen_at timestamptz DEFAULT now(),
    ADD COLUMN last_attempt_at timestamptz,
    ADD COLUMN next_attempt_at timestamptz,   -- NULL: nothing is to be tried again by itself
    ADD CHECK (outcome IN (
        'ok', 'empty', 'gone', 'taken_down', 'suspended', 'deactivated', 'migrated', 'transient', 'poison'
    ));
ALTER TABLE repo SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX repo_unfetched ON repo (host, did)
    WHERE backfilled_rev IS NULL AND outcome IS NULL AND queued_at IS NULL;
CREATE INDEX repo_wanted ON repo (did) WHERE wanted IS NOT NULL;
CREATE INDEX repo_queued ON repo (did) WHERE queued_at IS NOT NULL;
CREATE INDEX repo_fetching ON repo (did) WHERE fetch_id IS NOT NULL;
CREATE INDEX repo_next_attempt ON repo (next_attempt_at) WHERE next_attempt_at IS NOT NULL;

-- Uris that live ops changed while a snapshot of their repository was on its way, with the last
-- rev: in byte order, as the keys of a repository's tree are.
CREATE TABLE touched (
    did text NOT NULL,
    uri text COLLATE "C" NOT NULL,
    rev text NOT NULL,
    PRIMARY KEY (did, uri)
);

-- Hosts whose repositories are listed: PDSs, and the relays that named them. A lister works on a
-- host while it holds the claim; every page's transaction asks for the token.
CREATE TABLE host (
    origin text PRIMARY KEY,                  -- https://host[:port]
    relay boolean NOT NULL DEFAULT false,     -- its listHosts names hosts, its listRepos is a cross-check
    found_by text NOT NULL,                   -- the relay that named it, settings, or document
    found_at timestamptz NOT NULL DEFAULT now(),
    named_at timestamptz,                     -- of a relay: when its list of hosts was read, or given up for now
    accounts bigint,                          -- as a relay said, like the next
    status text,
    cursor text NOT NULL DEFAULT '',          -- of the next page of the listing begun last; '': the first
    listing integer NOT NULL DEFAULT 0,       -- how many listings were begun
    listed bigint NOT NULL DEFAULT 0,         -- repositories that this one gave
    began_at timestamptz,                     -- of this listing; NULL: the last one is done, or none was begun
    done_at timestamptz,                      -- when the last whole listing was done
    next_at timestamptz NOT NULL DEFAULT now(),  -- when the next one is due
    claimed_by text,
    claimed_until timestamptz,
    token bigint NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,      -- since its last page; from three on it is called unreachable
    parked_until timestamptz,                 -- not asked before, by nobody, neither for lists nor repositories
    last_error text
);

-- Where a host cannot list one repository: it was stepped over, and is asked for until it answers.
CREATE TABLE listing_gap (
    origin text NOT NULL,
    after_cursor text NOT NULL,               -- the last one before it
    until_cursor text NOT NULL,               -- where the listing went on
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (origin, after_cursor)
);

-- One row: of which epoch the queue is (of another one, everything unfinished is queued again), and
-- the last census.
CREATE TABLE queue (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch text NOT NULL DEFAULT '',
    swept_at timestamptz,
    census jsonb,
    census_at timestamptz
);
INSERT INTO queue DEFAULT VALUES;

-- Where backfill stands. One scan of all repositories: a minute where there are many millions.
CREATE VIEW census AS
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
                OR next_attempt_at <= now() + interval '1 minute'
                OR (outcome IS NULL AND backfilled_rev IS NULL
                    AND (parked_until IS NULL OR parked_until <= now() + interval '1 minute'))
                OR (resync IS NOT NULL AND coalesce(outcome, 'ok') IN ('ok', 'empty'))
        ) AS unfinished
    FROM repo
    LEFT JOIN host ON origin = repo.host
    GROUP BY outcome
) AS by_outcome;

-- Hosts are few thousands: counted whenever somebody asks.
CREATE VIEW host_census AS
SELECT
    count(*) FILTER (WHERE relay) AS relays,
    count(*) FILTER (WHERE NOT relay) AS hosts,
    count(*) FILTER (WHERE NOT relay AND done_at IS NOT NULL) AS listed_hosts,
    -- Still to be listed, or to be asked which hosts there are.
    count(*) FILTER (
        WHERE failures < 3 AND status IS DISTINCT FROM 'banned'
            AND (parked_until IS NULL OR parked_until <= now() + interval '1 minute')
            AND (began_at IS NOT NULL OR next_at <= now() OR (relay AND named_at IS NULL))
    ) AS hosts_due,
    count(*) FILTER (
        WHERE failures >= 3 OR parked_until > now() + interval '1 minute'
    ) AS unreachable_hosts,
    (SELECT count(*) FROM listing_gap) AS listing_gaps
FROM host;
