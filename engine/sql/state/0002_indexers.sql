-- The indexers at work: shards are shared among those that were seen lately.
CREATE TABLE indexer (
    name text PRIMARY KEY,
    joined_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
