-- The stream of labels: its life, its owner, and how far it is committed. One row.
CREATE TABLE label_stream (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch text NOT NULL DEFAULT '',
    entry_id text NOT NULL DEFAULT '0-0',
    entries bigint NOT NULL DEFAULT 0,   -- committed in this epoch
    token bigint NOT NULL DEFAULT 0,     -- fence: who writes labels holds it
    backend_pid integer,                 -- of who took it last
    backend_start timestamptz,
    moved_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO label_stream DEFAULT VALUES;

-- How far each labeler's stream is committed, in each life of its seqs. Written in the transaction
-- of the labels: what comes again from before it changes nothing.
CREATE TABLE label_position (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    generation integer NOT NULL,
    seq bigint NOT NULL DEFAULT 0,
    outcomes jsonb NOT NULL DEFAULT '{}', -- labels by outcome; never reset
    started_at timestamptz NOT NULL DEFAULT now(),
    moved_at timestamptz,
    UNIQUE (host, generation)
);

-- Through which streams the labels of a source came; position 0 are labels that were in the table
-- before the first of ours. While there is one, its later label wins; between two, "cts" decides.
CREATE TABLE label_source (
    src text NOT NULL,
    position integer NOT NULL,
    first boolean NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (src, position)
);

-- Which stream a label came through last, where that is not the first one of its source.
CREATE TABLE label_origin (
    key bytea PRIMARY KEY,               -- 16 bytes of a digest of src, uri, cid and val
    position integer NOT NULL
);

-- Labels that a labeler no longer served when they were asked for.
CREATE TABLE label_gap (
    host text NOT NULL,
    generation integer NOT NULL,
    after_seq bigint NOT NULL,
    before_seq bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host, generation, after_seq)
);
