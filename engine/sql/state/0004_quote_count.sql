-- How many quotes name a CID: the data plane counts by it, and has no index on it.
CREATE TABLE quote_count (
    cid text PRIMARY KEY,
    quotes bigint NOT NULL
);
