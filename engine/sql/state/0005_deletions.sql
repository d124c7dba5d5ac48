-- Accounts that an #account event calls deleted. The identity role asks the host, the owner of the
-- shard deletes. An account event or commit that is applied later calls it off: the row goes, nothing else.
CREATE TABLE deletion (
    did text PRIMARY KEY,
    shard integer NOT NULL,              -- of the DID
    relay text NOT NULL,                 -- that brought the event
    generation integer NOT NULL,
    seq bigint NOT NULL,
    time text NOT NULL,                  -- T of the event: repo.account_time while it is the last
    rev text,                            -- repo.rev when the event was applied
    attempts integer NOT NULL DEFAULT 0, -- that failed
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    confirmed_at timestamptz,            -- when the host said that it has no such repository
    started_at timestamptz               -- rows are being deleted: nothing calls it off any more
);
CREATE INDEX deletion_next ON deletion (next_attempt_at) WHERE confirmed_at IS NULL;
CREATE INDEX deletion_confirmed ON deletion (shard, confirmed_at) WHERE confirmed_at IS NOT NULL;
