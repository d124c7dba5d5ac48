-- What `headrace up` asks about connections before it starts anything.

-- name: limits
-- What the server allows, and who is there already. To an ordinary user the backends of others
-- have no type, those of the server itself no user either.
SELECT current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END AS of_role,
       CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END AS of_database,
       (SELECT count(*) FROM pg_stat_activity
        WHERE usesysid IS NOT NULL AND pid <> pg_backend_pid()
          AND coalesce(backend_type, 'client backend') = 'client backend')::int AS in_use
FROM pg_roles r, pg_database d
WHERE r.rolname = session_user AND d.datname = current_database();
