-- Quotes that a database held before Headrace came to it.

-- name: quote_count_lock
-- One indexer at a time; released with the transaction. $1 what is locked.
SELECT pg_advisory_xact_lock(hashtextextended($1, 0));

-- name: quote_count_fill
-- Count every quote, once in a deployment's life: the only statement that reads the whole table.
-- With a single count known, all are, for each quote of ours is counted in its own transaction.
INSERT INTO {state}.quote_count (cid, quotes)
SELECT "subjectCid", count(*) FROM quote
WHERE NOT EXISTS (SELECT FROM {state}.quote_count)
GROUP BY 1;
