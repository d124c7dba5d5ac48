-- The latest time (milliseconds since 1970) of a post or gate applied, by shard: what is not before
-- the latest of all is no late referent.
CREATE TABLE latest (
    shard integer PRIMARY KEY,
    millis bigint NOT NULL
) WITH (fillfactor = 20);
