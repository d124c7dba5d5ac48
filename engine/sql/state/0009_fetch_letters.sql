-- Dead letters of repositories that could not be fetched say since when and how often it was tried.
ALTER TABLE dead_letter
    ADD COLUMN attempts integer,
    ADD COLUMN first_seen_at timestamptz;
