-- What became due in one transaction is due at one time: each page in the order of this index, not sorted.
DROP INDEX identity_due_next;
CREATE INDEX identity_due_next ON identity_due (next_attempt_at, did);

-- Which event a handle was given for, for an hour: an older one that is looked up later does not take it.
CREATE TABLE seat (
    handle text PRIMARY KEY,
    did text NOT NULL,
    seq bigint NOT NULL,                 -- of the event that asked
    seated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX seat_age ON seat (seated_at);

-- Accounts that an #account event calls deactivated, possibly of a host that they have left: whether the
-- present one says so too is still to be asked.
CREATE TABLE status_due (
    did text PRIMARY KEY,
    time text NOT NULL,                  -- T of the event: repo.account_time while it is the last
    attempts integer NOT NULL DEFAULT 0, -- that failed
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text
);
CREATE INDEX status_due_next ON status_due (next_attempt_at, did);
