"""The connections that a deployment holds are those that it announced."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from tests.system.deployment import deployed, past, settle

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

HELD = (
    "SELECT split_part(split_part(split_part(application_name, ' ', 2), '/', 1), '@', 1) AS role,"
    " count(*) AS held FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name LIKE 'headrace %' GROUP BY 1"
)


async def test_no_role_holds_more_connections_than_planned(
    shared: Path, tmp_path: Path, database: str, redis_url: str
) -> None:
    log = tmp_path / "up.log"
    most: dict[str, int] = {}
    observer = await asyncpg.connect(database)
    try:
        with deployed(shared / "golden-gates", log, database, redis_url, rate=600, indexers=2) as (
            run,
            relay,
        ):

            async def look() -> None:
                for role, held in await observer.fetch(HELD):
                    most[role] = max(most.get(role, 0), held)

            for seq in range(20, relay.network.frames.last_seq, 20):
                run.wait_for(f"seq {seq}", past(seq))
                await look()
            settle(run, relay.network.frames.last_seq)
            await look()
    finally:
        await observer.close()
    line = re.search(r"Postgres connections (planned=.*) allowed", log.read_text())
    assert line
    planned = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line[1])}
    assert planned.pop("planned") == sum(planned.values()) == 1 + 3 + 4 + 5
    most["up"] = most.pop("status")
    assert most.keys() == planned.keys()
    assert {role: held for role, held in most.items() if held > planned[role]} == {}
    assert {role: most[role] for role in ("up", "indexer", "identity")} == {
        "up": 1,
        "indexer": 4,
        "identity": 5,
    }
