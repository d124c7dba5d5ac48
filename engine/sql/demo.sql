-- What `headrace demo` shows. The data plane is on the search_path.

-- name: tables
-- The tables of a schema. $1 its name.
SELECT table_name AS name FROM information_schema.tables
WHERE table_schema = $1 AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'kysely%'
  AND table_name <> 'view_param'
ORDER BY table_name;

-- name: posts
-- The newest posts, with their authors.
SELECT post.creator, actor.handle, post.text
FROM post LEFT JOIN actor ON actor.did = post.creator
ORDER BY post."sortAt" DESC, post.cid DESC
LIMIT 3;

-- name: dead_letters
-- What could not be indexed, by reason.
SELECT reason, count(*) AS rows FROM {state}.dead_letter GROUP BY reason ORDER BY reason;

-- name: repositories
-- What became of the repositories: ok, empty, or why there is none.
SELECT coalesce(outcome, 'not asked for') AS outcome, count(*) AS repositories
FROM {state}.repo GROUP BY 1 ORDER BY 2 DESC, 1;
