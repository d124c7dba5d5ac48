"""The SQL that follows mechanically from a declaration.

Pure text: golden files under ``tests/golden/sql`` show every statement of every
table. Names are what the fold asks for (``native/src/fold``): ``lookup_T``,
``lookup_T_key``, ``delete_T``, ``update_record``. Keys come as array literals, so a
statement's text never changes with its size. Two-column keys are looked up by a nested
loop that ``OFFSET 0`` keeps the planner from turning into a scan.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine import sql
from engine.collections.declare import Collection, Column, Plan, Source, Table
from engine.sql import quoted

_LOOKUP_PREFIX = "lookup_"


@dataclass(frozen=True)
class GivingWay:
    """How rows are written that an index which is not the reference's may refuse."""

    table: str  # temporary, empty at the end of each transaction
    prepare: str
    insert: str


@dataclass(frozen=True)
class Statements:
    """Every statement of the indexer's transaction, by the name the fold uses."""

    lookups: dict[str, str]  # answer one row of one column: a JSON array of row arrays
    writes: dict[str, str]
    copies: dict[str, tuple[str, str, tuple[str, ...]]]  # name -> schema, table, columns
    giving_way: dict[str, GivingWay]  # tables that are copied in two steps


def _array(number: int) -> str:
    return f"(${number}::text)::text[]"


def _one_of(number: int) -> str:
    """A condition's right side. The sub-select reads the literal once, and not for every row."""
    return f"= ANY((SELECT {_array(number)})::text[])"


def lookup_rows(table: Table, columns: tuple[str, ...] = ()) -> str:
    """Which of these uris have a row, and what these columns of theirs are. $1 uris."""
    told = ", ".join(quoted(name) for name in ("uri", *columns))
    return (
        f"SELECT coalesce(json_agg(json_build_array({told})), '[]')::text\n"
        f"FROM {quoted(table.name)}\n"
        f"WHERE uri {_one_of(1)}"
    )


def lookup_keys(table: Table, unique: tuple[str, ...]) -> str:
    """Who occupies these unique keys. One array a column of the key."""
    names = [f"k{number}" for number in range(1, len(unique) + 1)]
    arrays = ", ".join(_array(number) for number in range(1, len(unique) + 1))
    match = " AND ".join(
        f"{quoted(column)} = wanted.{name}" for column, name in zip(unique, names, strict=True)
    )
    wanted = ", ".join(f"wanted.{name}" for name in names)
    return (
        f"SELECT coalesce(json_agg(json_build_array({wanted}, held.uri)), '[]')::text\n"  # noqa: S608
        f"FROM unnest({arrays}) AS wanted({', '.join(names)})\n"
        "CROSS JOIN LATERAL (\n"
        f"    SELECT uri FROM {quoted(table.name)} WHERE {match} OFFSET 0\n"
        ") AS held"
    )


def delete_rows(table: Table) -> str:
    """Remove rows by the first column of the primary key. $1 uris, sorted."""
    return f"DELETE FROM {quoted(table.name)}\nWHERE {quoted(table.key[0])} {_one_of(1)}"  # noqa: S608


def updated(table: Table) -> list[Column]:
    """The columns that an update takes, in order: the uri, then all that may change."""
    return [column for column in table.columns if column.source is not Source.DID]


def update_rows(table: Table) -> str:
    """Set these columns by uri, leaving all others alone. One array a column."""
    names = [column.name for column in updated(table)]
    arrays = ",\n    ".join(_array(number) for number in range(1, len(names) + 1))
    columns = ", ".join(quoted(name) for name in names)
    values = ",\n    ".join(
        f"{quoted(name)} = new.{quoted(name)}" for name in names if name not in table.key
    )
    return (
        f"UPDATE {quoted(table.name)} AS old SET\n    {values}\n"
        f"FROM unnest(\n    {arrays}\n) AS new({columns})\n"
        f"WHERE old.uri = new.uri AND old.uri {_one_of(1)}"
    )


def give_way(table: Table) -> GivingWay:
    """By way of a temporary table: rows of which a unique index has one already are left out."""
    columns = ", ".join(quoted(column.name) for column in table.columns)
    waiting = quoted(f"new_{table.name}")
    name = quoted(table.name)
    return GivingWay(
        f"new_{table.name}",
        f"CREATE TEMP TABLE IF NOT EXISTS {waiting} ON COMMIT DELETE ROWS\n"  # noqa: S608
        f"AS SELECT {columns} FROM {name} WITH NO DATA",
        f"INSERT INTO {name} ({columns})\nSELECT {columns} FROM pg_temp.{waiting}\n"
        "ON CONFLICT DO NOTHING",
    )


def of_collection(collection: Collection) -> tuple[dict[str, str], dict[str, str]]:
    """Look-ups and writes of one collection's tables."""
    table = collection.table
    if table is None:
        return {}, {}
    lookups = {f"{_LOOKUP_PREFIX}{table.name}": lookup_rows(table, ("cid", *collection.unique))}
    if collection.unique:
        lookups[f"{_LOOKUP_PREFIX}{table.name}_key"] = lookup_keys(table, collection.unique)
    tables = (table, *(embed.table for embed in collection.embeds))
    return lookups, {f"delete_{each.name}": delete_rows(each) for each in tables}


def build(plan: Plan, schema: str, state_schema: str) -> Statements:
    """All statements for one database.

    Args:
        plan: of the database that the statements will run in.
        schema: of the data plane, for COPY; statements reach it by ``search_path``.
        state_schema: of Headrace's own tables.
    """
    named: dict[str, str] = {}
    for file in ("indexer", "late", "lookups", "shared", "snapshots"):
        named |= sql.load(file, state=state_schema)
    lookups = {name: text for name, text in named.items() if name.startswith(_LOOKUP_PREFIX)}
    writes = {name: text for name, text in named.items() if name not in lookups}
    lookups["lookup_record"] = lookup_rows(plan.record)
    writes["delete_record"] = delete_rows(plan.record)
    writes["update_record"] = update_rows(plan.record)
    for collection in plan.collections:
        of_lookups, of_writes = of_collection(collection)
        lookups |= of_lookups
        writes |= of_writes
    for table in plan.derived:
        if table.key and f"delete_{table.name}" not in writes:
            writes[f"delete_{table.name}"] = delete_rows(table)
    copies = {
        name: (schema, name, tuple(column.name for column in table.columns))
        for name, table in plan.tables().items()
    }
    giving_way = {name: give_way(plan.tables()[name]) for name in plan.gives_way}
    return Statements(lookups, writes, copies, giving_way)
