"""How all rows of one repository go, collection by collection: for a deleted account.

Every record has its row in ``record``, so uris are enough: no table is searched by a
column that has no index. What follows mechanically from a declaration is here; posts, whose
removal reaches other tables, are code (``engine/roles/indexer/deletion.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.collections.declare import Collection, Count, Plan, Role
from engine.collections.statements import delete_rows
from engine.sql import quoted


@dataclass(frozen=True)
class Removal:
    """What removes the rows of some records of one collection. Parameters: $1 uris, sorted."""

    take: str | None
    """Deletes rows and returns the keys of their counts, a column for each; None: none counts."""
    counts: tuple[Count, ...]
    deletes: tuple[str, ...]
    """Further statements, by the names of ``Statements.writes``."""
    is_post: bool = False


def of_plan(plan: Plan) -> dict[str, Removal]:
    """The removal of each collection by its NSID; records without a row of their own have none."""
    return {
        collection.nsid: _removal(collection) for collection in plan.collections if collection.table
    }


def _removal(collection: Collection) -> Removal:
    table = collection.table
    assert table is not None
    deletes = [f"delete_{embed.table.name}" for embed in collection.embeds]
    if collection.role is Role.POST:
        return Removal(None, (), tuple(deletes), is_post=True)
    if collection.role is Role.REPOST:
        deletes.append("delete_feed_item")
    take = None
    if collection.counts:
        keys = ", ".join(quoted(count.key) for count in collection.counts)
        take = f"{delete_rows(table)}\nRETURNING {keys}"
    else:
        deletes.append(f"delete_{table.name}")
    return Removal(take, collection.counts, tuple(deletes))
