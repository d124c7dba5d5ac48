-- Reading a database's catalogue. Run with the schema first in the search path.

-- name: catalogue_names
-- Every relation of schema $1 that occupies a table's name.
SELECT relname AS name FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relkind IN ('r', 'p', 'v', 'm', 'f');

-- name: catalogue_columns
-- Columns of every table of schema $1, in attribute order.
SELECT c.relname AS "table", a.attname AS name,
       format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS not_null,
       pg_get_expr(d.adbin, d.adrelid) AS "default",
       a.attgenerated <> '' AS generated,
       a.attidentity <> '' AS identity
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum;

-- name: catalogue_constraints
-- Constraints of those tables, without NOT NULL (a column's own property).
SELECT c.relname AS "table", k.conname AS name, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND k.contype <> 'n'
ORDER BY c.relname, k.conname;

-- name: catalogue_indexes
-- Indexes of those tables; columns are NULL where an expression is indexed.
SELECT c.relname AS "table", x.relname AS name,
       pg_get_indexdef(i.indexrelid, 0, true) AS definition,
       i.indisunique AS is_unique,
       i.indisvalid AS is_valid,
       i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR NOT i.indimmediate AS partial,
       EXISTS (
           SELECT FROM pg_constraint k
           WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
       ) AS of_constraint,
       ARRAY(
           SELECT a.attname::text
           FROM unnest(i.indkey) WITH ORDINALITY AS part (attnum, place)
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
           WHERE part.place <= i.indnkeyatts
           ORDER BY part.place
       ) AS columns
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relkind IN ('r', 'p')
ORDER BY c.relname, x.relname;
