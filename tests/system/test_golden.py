"""Recorded networks through real sockets, Valkey and Postgres: the tables they must become."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.simulate import network as networks
from engine.simulate import server
from tests.system import accounts
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
    await accounts.add_up(database, redis_url, at_least=3001)
