"""A folder of recorded repositories, loaded and indexed: the rows are what the files hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from engine import settings, simulate
from engine.core import codec
from engine.roles.backfiller import load
from engine.roles.indexer import IndexerRole

pytestmark = [pytest.mark.services, pytest.mark.slow]


async def test_loaded_repositories_end_as_rows(
    database: str, redis_url: str, shared: Path, tmp_path: Path
) -> None:
    cars = shared / "golden" / "cars"
    async with simulate.serve(simulate.load(shared / "golden")) as server:
        ours = settings.load(
            environ={
                "DATABASE_URL": database,
                "REDIS_URL": redis_url,
                "PLC_URL": server.url,
                "NETWORK_ALLOW_PRIVATE": "true",
                "DATA_DIR": str(tmp_path),
            }
        )
        found = await load.run(ours, "load", cars)
    assert found.refused == []
    expected = set()
    for path in cars.glob("*.car"):
        export = codec.read_repo(path)
        assert isinstance(export, codec.Export)
        expected |= {f"at://{export.did}/{key}" for key, _, _ in export.leaves()}
    assert found.records + found.filtered == len(expected) >= 3_000
    db = await asyncpg.connect(database)
    stop = asyncio.Event()
    role = asyncio.create_task(IndexerRole("indexer/0", ours).run(stop))
    try:
        async with asyncio.timeout(60):
            while await db.fetchval(
                "SELECT count(*) FROM headrace.repo WHERE backfilled_rev IS NOT NULL"
            ) < len(list(cars.glob("*.car"))):
                assert not role.done(), role.result()
                await asyncio.sleep(0.1)
        uris = {row["uri"] for row in await db.fetch("SELECT uri FROM record")}
        refused = await db.fetchval("SELECT count(*) FROM headrace.dead_letter")
    finally:
        stop.set()
        await role
        await db.close()
    # What is not valid is a dead letter, and what was filtered is nowhere.
    assert uris < expected
    assert len(uris) + refused == found.records
