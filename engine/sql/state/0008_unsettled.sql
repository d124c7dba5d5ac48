-- Posts and gates that a writer beside theirs may have missed: looked at once more when every batch
-- that was looked up before they were noted is committed. Written in the transaction of what names
-- a post, or of a gate.
CREATE TABLE unsettled (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard integer NOT NULL,
    uri text NOT NULL,
    invalid boolean NOT NULL -- a post that was there, as a reply with an invalid root
);
CREATE INDEX unsettled_shard ON unsettled (shard, id);

-- No batch of this owner that is not committed was looked up before the log was here.
ALTER TABLE shard ADD COLUMN looked_at pg_lsn;
