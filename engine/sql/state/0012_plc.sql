-- What the directory's log says of each DID: its last operation, imported from a file of it and
-- kept up by reading its end. A cache: what is not here, or not to be believed, is asked for.
CREATE TABLE plc (
    did text PRIMARY KEY,
    created_at timestamptz NOT NULL,     -- of the operation, as the directory says; a later one wins
    handle text,                         -- as written in the alias; all three NULL: a tombstone
    key text,                            -- did:key
    pds text,
    doubted boolean NOT NULL DEFAULT false  -- an event said that it changed; until a later operation
);
ALTER TABLE plc SET (autovacuum_vacuum_scale_factor = 0.05);

-- How far the log is known. One row.
CREATE TABLE plc_log (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    read_to timestamptz,                 -- the cursor: every operation up to it is here, or in no file
                                         -- that was imported; NULL: nothing was
    current_at timestamptz               -- when the directory last had nothing more
);
INSERT INTO plc_log DEFAULT VALUES;

-- How far files of the log are imported; written in the transaction of their operations.
CREATE TABLE plc_import (
    head bytea PRIMARY KEY,              -- digest of a file's beginning: its name may change
    name text NOT NULL,
    bytes bigint NOT NULL,               -- unpacked, up to the end of a line
    last_line bytea NOT NULL,            -- digest of that line, so that another file is recognised
    lines bigint NOT NULL,
    nullified bigint NOT NULL,           -- of these
    bad bigint NOT NULL,
    first_at timestamptz,                -- earliest and latest operation in it
    last_at timestamptz,
    began_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz                  -- when its end was reached last
);
