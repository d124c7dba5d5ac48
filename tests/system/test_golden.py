"""Recorded networks through real sockets, Valkey and Postgres: the tables they must become."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
import redis

from engine.simulate import network as networks
from engine.simulate import server
from tests.system.deployment import Deployment
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]


@pytest.mark.parametrize("network", ["golden", "golden-gates"])
@pytest.mark.parametrize("indexers", [1, 3])
async def test_tables_equal_the_reference(
    shared: Path, tmp_path: Path, database: str, redis_url: str, network: str, indexers: int
) -> None:
    with server.serve_in_thread(networks.load(shared / network)) as relay:
        run = Deployment(
            relay.settings,
            database,
            redis_url,
            indexers=indexers,
            log=tmp_path / "up.log",
            arguments=["--until-caught-up"],
        )
        with run:
            assert run.wait(120) == 0, run.tail()
    assert differences(shared, network, database) == ""
    await _accounts_add_up(database, redis_url)


async def _accounts_add_up(database: str, redis_url: str) -> None:
    """Law 3: ops received are ops with an outcome, nothing being in flight any more."""
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch(
            "SELECT r.key, sum(o.value::bigint)::bigint AS ops FROM headrace.position p,"
            " jsonb_each(p.relays) r, jsonb_each_text(r.value) o WHERE o.key <> 'seq'"
            " GROUP BY r.key"
        )
    finally:
        await conn.close()
    outcomes = {row["key"]: row["ops"] for row in rows}
    assert outcomes
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        received = {}
        for key in client.scan_iter("firehose_live:received:*"):
            host = key.removeprefix("firehose_live:received:")
            for generation, ops in client.hgetall(key).items():
                received[f"{host}/{generation}"] = int(ops)
    assert received == outcomes
    assert sum(received.values()) > 3000
