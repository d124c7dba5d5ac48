-- Our own tables. Everything in Redis can be rebuilt from these and the upstream.

-- One row: which deployment this is, and which life of the Redis streams its positions speak of.
CREATE TABLE deployment (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    deployment_id text NOT NULL,
    epoch text NOT NULL DEFAULT '',      -- '' until the streams were made once
    shard_count integer NOT NULL CHECK (shard_count > 0)
);

-- Who owns a shard. Every writing transaction locks its rows WHERE token = mine; a take-over ends the
-- old owner's backend first and then bumps the token, so a frozen owner can neither write nor block.
CREATE TABLE shard (
    shard integer PRIMARY KEY,
    token bigint NOT NULL DEFAULT 0,
    owner text,
    backend_pid integer,
    backend_start timestamptz,
    renewed_at timestamptz
);

-- How far a shard of a source is committed. Written in the transaction of the rows it stands for.
CREATE TABLE position (
    source text NOT NULL,
    shard integer NOT NULL,
    epoch text NOT NULL DEFAULT '',
    entry_id text NOT NULL DEFAULT '0-0',
    entries bigint NOT NULL DEFAULT 0,   -- entries committed in this epoch
    -- "host/generation" -> {"seq": highest seq held, "applied": ops, "duplicate": ops, "filtered": ops,
    --  "no_effect:REASON": ops, "rejected:REASON": ops}; the counts never reset
    relays jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (source, shard)
);

-- A relay and the generation of its seq numbers.
CREATE TABLE relay (
    host text PRIMARY KEY,
    generation integer NOT NULL DEFAULT 1,
    first_seq bigint NOT NULL,           -- everything up to it was deliberately not asked for
    started_at timestamptz NOT NULL DEFAULT now()
);

-- Frames that a relay no longer serves: known to be missing, never hidden.
CREATE TABLE relay_gap (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    generation integer NOT NULL,
    after_seq bigint NOT NULL,           -- last seq held before the gap
    before_seq bigint,                   -- first seq after it, once seen
    reason text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);

-- What is applied of each repository.
CREATE TABLE repo (
    did text PRIMARY KEY,
    rev text,                            -- last applied live rev
    resync text,                         -- why the repository must be fetched again; NULL if it need not
    account_time text,                   -- time of the last applied #account, verbatim
    identity_time text,                  -- time of the last applied #identity, verbatim
    active boolean,                      -- as the last #account said
    status text
);
CREATE INDEX repo_resync ON repo (did) WHERE resync IS NOT NULL;

-- Identities to look up. Removed only by the identity role, and only if no other event asked since.
CREATE TABLE identity_due (
    did text PRIMARY KEY,
    seq bigint NOT NULL,                 -- of the event that asked last
    time text NOT NULL,                  -- T of that event: becomes actor."indexedAt"
    forced boolean NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text
);
CREATE INDEX identity_due_next ON identity_due (next_attempt_at);

-- Data that could not be indexed, with its bytes.
CREATE TABLE dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    shard integer NOT NULL,
    relay text NOT NULL,
    generation integer NOT NULL,
    seq bigint,
    did text,
    path text,                           -- collection/rkey; NULL for a whole frame or event
    cid text,
    reason text NOT NULL,
    error text NOT NULL,
    raw bytea,
    noted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letter_did ON dead_letter (did);
