"""Two relays that carry the same network: every event has its effect once."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from engine.simulate import network as networks
from engine.simulate import server
from tests.system.deployment import Deployment
from tests.system.golden import stable_differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(180)]

OUTCOMES = (
    "SELECT r.key, o.key AS outcome, sum(o.value::bigint)::bigint AS ops"
    " FROM headrace.position p, jsonb_each(p.relays) r, jsonb_each_text(r.value) o"
    " WHERE o.key <> 'seq' GROUP BY 1, 2"
)


@pytest.mark.slow
async def test_two_relays_make_the_tables_of_one(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    network = networks.load(shared / "golden")
    with server.serve_in_thread(network) as one, server.serve_in_thread(network) as two:
        hosts = ",".join(each.settings["INGESTER_RELAY_HOSTS"] for each in (one, two))
        run = Deployment(
            one.settings | {"INGESTER_RELAY_HOSTS": hosts},
            database,
            redis_url,
            indexers=2,
            log=tmp_path / "up.log",
            arguments=["--until-caught-up"],
        )
        with run:
            assert run.wait(150) == 0, run.tail()
    assert stable_differences(shared, "golden", database) == ""
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch(OUTCOMES)
        resyncs = await conn.fetchval(
            "SELECT count(*) FROM headrace.repo WHERE resync = 'since_mismatch'"
        )
    finally:
        await conn.close()
    ops: dict[str, dict[str, int]] = {}
    for relay, outcome, count in rows:
        ops.setdefault(relay, {})[outcome] = count
    first, second = ops.values()
    assert sum(first.values()) == sum(second.values()) > 3000
    duplicates = first.get("duplicate", 0) + second.get("duplicate", 0)
    assert duplicates > 3000
    assert resyncs == 0
