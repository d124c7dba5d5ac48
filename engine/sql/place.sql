-- Places that one process of a deployment may have at a time. {state} is the quoted state schema.

-- name: place_take
-- Take the place of $1 for this session, if it is free.
SELECT pg_try_advisory_lock(hashtextextended(deployment_id || '/' || $1, 0))
FROM {state}.deployment;

-- name: place_holder
-- Who has the place of $1.
SELECT a.application_name || ', backend ' || a.pid
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
CROSS JOIN {state}.deployment d
CROSS JOIN LATERAL (SELECT hashtextextended(d.deployment_id || '/' || $1, 0) AS key) k
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
  AND l.classid = ((k.key >> 32) & 4294967295)::oid AND l.objid = (k.key & 4294967295)::oid;
