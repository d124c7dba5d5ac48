-- delete_quote
-- The quotes that these posts make. Counted by what was there: the owner of a quoted post may
-- remove the same quotes. $1 uris.
WITH gone AS (
    DELETE FROM quote WHERE uri = ANY((SELECT ($1::text)::text[])::text[])
    RETURNING "subjectCid"
), counted AS (
    SELECT "subjectCid" AS cid, count(*) AS quotes FROM gone GROUP BY 1 ORDER BY 1
)
INSERT INTO "headrace".quote_count AS held (cid, quotes)
SELECT cid, -quotes FROM counted
ON CONFLICT (cid) DO UPDATE SET quotes = held.quotes + excluded.quotes;

-- copy
COPY "quote" ("uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
