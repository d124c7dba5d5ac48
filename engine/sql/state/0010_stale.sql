-- Uris that a repository had when the first slice of a snapshot was applied, beyond that slice: what
-- the slices to come do not hold of them is deleted. In byte order, as the keys of a repository's
-- tree are; record, in the data plane, may have another one. Gone when the fetch ends.
CREATE TABLE stale (
    did text NOT NULL,
    uri text COLLATE "C" NOT NULL,
    PRIMARY KEY (did, uri)
);
