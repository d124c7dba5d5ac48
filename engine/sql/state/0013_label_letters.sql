-- Of a labeler's labels: those that were taken though nobody checked their signature, or it is bad; and
-- dead letters that were not kept, for there were enough of its host. And whose labels its stream may
-- carry, from its beginning on: one who comes later has it read again. NULL: nobody noted it.
ALTER TABLE label_position
    ADD COLUMN unverified bigint NOT NULL DEFAULT 0,
    ADD COLUMN letters_left_out bigint NOT NULL DEFAULT 0,
    ADD COLUMN sources text[];

-- How many there are of a host.
CREATE INDEX dead_letter_labeler ON dead_letter (relay) WHERE source = 'label_live';
