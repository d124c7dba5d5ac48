-- delete_quote
-- The quotes that these posts make; how many named each CID. Counted by what was there: the owner
-- of a quoted post may remove the same quotes. $1 uris.
WITH gone AS (
    DELETE FROM quote WHERE uri = ANY((SELECT ($1::text)::text[])::text[])
    RETURNING "subjectCid"
)
SELECT "subjectCid" AS cid, count(*) AS quotes FROM gone GROUP BY 1;

-- copy
COPY "quote" ("uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt") FROM STDIN (FORMAT binary);
