"""The recorded networks and the judgement over a database.

One indexer reads a relay's log in its order, so every row must be the reference's, and its own
``check.py`` is the judge. Several indexers, or several relays, make other orders: then every
stable row must be the same, whatever becomes of the others (``tests.model.stable``).
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.conftest import run_async
from tests.model.events import Account
from tests.model.golden import Network
from tests.model.stable import differing
from tests.model.store import KEYS, NOW, Row

SHOWN = 20
"""Differing rows that are told."""

_network = functools.cache(Network)


def network(golden: Path) -> Network:
    """A recorded network, read once a session."""
    return _network(golden)


def differences(
    shared: Path,
    name: str,
    database_url: str,
    *,
    schema: str = "public",
    ignore: Collection[str] = (),
) -> str:
    """What check.py says if a row of any table differs, else an empty string."""
    golden = shared / name
    result = subprocess.run(
        [
            sys.executable,
            str(shared / "golden" / "check.py"),
            database_url,
            "--schema",
            schema,
            "--golden",
            str(golden),
            "--ignore",
            ",".join(ignore),
            "--show",
            "100000",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in result.stdout.splitlines() if not _is_not_yet(golden, line)]
    differing = [line for line in said if line.startswith(("  - ", "  + "))]
    checked = sum(" rows  ok" in line for line in said)
    tables = len(list((golden / "tables").glob("*.csv")))
    total = re.search(r"^total (\d+) rows expected", result.stdout, re.MULTILINE)
    if total and int(total[1]) > 10_000 and checked >= tables - 1 and not differing:
        return ""
    return "\n".join([*said, result.stderr])[:20_000]


def _is_not_yet(golden: Path, line: str) -> bool:
    """Whether a line is of what a deleted account was told, which the engine still leaves."""
    gone = [event.did for event in network(golden).events if isinstance(event, Account)
            and event.status == "deleted" and not event.active]  # fmt: skip
    return any(line.startswith(f"  + did={did} | recordUri=") for did in gone)


@dataclass(frozen=True)
class Judgement:
    """A database against the rows of the log's own order."""

    wrong: list[tuple[str, str, Row]]
    """Stable rows that differ: ("missing" | "extra", table, row)."""
    differing: Counter[str]
    """Unstable rows that differ, by table."""
    rows: int
    unstable: int
    """Of the rows of the log's own order."""

    def __str__(self) -> str:
        """Empty if no stable row differs."""
        shown = [f"{word} {table}: {row}" for word, table, row in self.wrong[:SHOWN]]
        return "\n".join([f"{len(self.wrong)} stable rows differ:", *shown]) if shown else ""


async def judge(golden: Path, database_url: str) -> Judgement:
    """Compare all tables with what the log becomes in its own order."""
    found = network(golden)
    wrong, unstable = differing(found.stability, found.rows, await rows(database_url))
    return Judgement(wrong, unstable, *_sizes(golden))


@functools.cache
def _sizes(golden: Path) -> tuple[int, int]:
    found = network(golden)
    stable = [
        found.stability.is_stable(table, row) for table, rows in found.rows.items() for row in rows
    ]
    return len(stable), stable.count(False)


def stable_differences(shared: Path, name: str, database_url: str) -> str:
    """The stable rows that differ, in words; empty if there are none."""
    return str(run_async(judge(shared / name, database_url)))


async def rows(database_url: str) -> dict[str, list[Row]]:
    """Every table that events write, as the model has it: clock values are a word."""
    conn = await asyncpg.connect(database_url)
    try:
        await conn.set_type_codec(
            "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )
        found = {
            table: [dict(row) for row in await conn.fetch(f'SELECT * FROM "{table}"')]
            for table in KEYS
        }
    finally:
        await conn.close()
    _hide_clock(found)
    return found


def _hide_clock(tables: dict[str, list[dict[str, Any]]]) -> None:
    dated = {
        row["uri"]: "createdAt" in json.loads(row["json"])
        for row in tables["record"]
        if "/app.bsky.actor.profile/" in row["uri"]
    }
    for row in tables["notification"]:
        del row["id"]
        if row["reason"] == "unverified":
            row["sortAt"] = NOW
    for row in tables["op_thread_reply"]:
        row["deletedAt"] = row["deletedAt"] and NOW
    for row in tables["profile"]:
        if not dated.get(row["uri"], True):
            row["createdAt"] = NOW
