"""A recorded network by backfill alone, no firehose: the rows that its repositories come to."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine import simulate
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]

NETWORK = "golden"

OWNERS = {
    "record": "did",
    "profile": "creator",
    "post": "creator",
    "like": "creator",
    "repost": "creator",
    "follow": "creator",
    "list": "creator",
    "list_block": "creator",
    "feed_generator": "creator",
    "starter_pack": "creator",
    "labeler": "creator",
    "actor_block": "creator",
    "thread_gate": "creator",
    "post_gate": "creator",
    "verification": "creator",
    "list_item": "creator",
    "feed_item": "originatorDid",
    "post_embed_image": "postUri",
    "post_embed_external": "postUri",
    "post_embed_record": "postUri",
    "post_embed_video": "postUri",
    "post_embed_gallery_image": "postUri",
}
"""Tables of what records say, and the column that tells whose it is: a DID, or a uri of theirs.

Not here: quotes, notifications and numbers, which also tell of posts that are gone by now.
"""

OF_HISTORY = {
    "indexedAt",  # when an event came; for fetched records, the instant of their key or rev
    "sortAt",  # the lesser of that and createdAt
    "sortedAt",
}
"""Columns that no snapshot tells."""

OF_OTHERS = {
    "post": {
        "invalidReplyRoot",
        "violatesThreadGate",
        "violatesEmbeddingRules",
        "hasThreadGate",
        "hasPostGate",
    }
}
"""Judged when a record came, by records that were there then or came later."""


def expected(shared: Path, table: str, dids: set[str]) -> list[dict[str, Any]]:
    with (shared / NETWORK / "tables" / f"{table}.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if owner(table, row) in dids]


async def found(conn: asyncpg.Connection[Any], table: str, dids: set[str]) -> list[dict[str, Any]]:
    """The rows as a CSV export has them."""
    names = await conn.fetch(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = $1",
        table,
    )
    columns = ", ".join(f'"{row[0]}"::text' for row in names)
    rows = await conn.fetch(f'SELECT {columns} FROM "{table}"')
    plain = [{name: bare(text) for name, text in row.items()} for row in rows]
    return [row for row in plain if owner(table, row) in dids]


def owner(table: str, row: dict[str, Any]) -> str:
    text = str(row[OWNERS[table]])
    return text.split("/")[2] if text.startswith("at://") else text


def counted(table: str, rows: list[dict[str, Any]], undated: set[str]) -> Counter[str]:
    """Rows as text, without what comes from history; ``undated``: records without a time."""
    left_out = OF_HISTORY | OF_OTHERS.get(table, set())
    kept: Counter[str] = Counter()
    for row in rows:
        of_clock = {"createdAt"} if row.get("uri") in undated else set()
        some = {name: text for name, text in row.items() if name not in left_out | of_clock}
        kept[json.dumps(some, sort_keys=True)] += 1
    return kept


def bare(text: str | None) -> str:
    """As COPY writes it."""
    return {None: "", "true": "t", "false": "f"}.get(text, text or "")


async def test_backfill_alone_makes_the_rows_of_the_repositories(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    network = simulate.load(shared / NETWORK)
    dids = {str(repo["did"]) for repo in network.repos if network.export(str(repo["did"]))}
    assert len(dids) > 40
    with (
        simulate.serve_in_thread(network) as server,
        Deployment(
            server.settings,
            database,
            redis_url,
            log=tmp_path / "up.log",
            arguments=(
                *("--roles", "lister,backfiller,indexer,identity"),
                "--until-caught-up",
            ),
        ) as run,
    ):
        assert run.process is not None
        assert run.process.wait(120) == 0, run.tail()
    conn = await asyncpg.connect(database)
    try:
        outcomes = await conn.fetch("SELECT outcome, count(*) FROM headrace.repo GROUP BY outcome")
        assert dict(map(tuple, outcomes)) == {"ok": len(dids), "taken_down": 1, "deactivated": 1}
        wrong, rows = [], 0
        for table in OWNERS:
            given = expected(shared, table, dids)
            actual = await found(conn, table, dids)
            if table == "feed_item":
                # Those of reposts go whenever their post is updated or deleted: history.
                given = [row for row in given if row["type"] == "post"]
                actual = [row for row in actual if row["type"] == "post"]
            undated = {row["uri"] for row in given if row.get("createdAt") == "NOW"}
            want = counted(table, given, undated)
            have = counted(table, actual, undated)
            rows += want.total()
            wrong += [f"missing {table}: {row}" for row in (want - have).elements()]
            wrong += [f"extra {table}: {row}" for row in (have - want).elements()]
    finally:
        await conn.close()
    assert wrong == [], f"{len(wrong)} rows differ: " + "\n".join(wrong[:20])
    assert rows > 10_000
