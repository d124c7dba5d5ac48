"""The servers of a Linux distribution, besides the newest ones of the wheels."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from engine import simulate
from engine.adapters import binaries, embedded
from tests.conftest import migrate, skip_or_fail
from tests.system import accounts
from tests.system.deployment import Deployment
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

REDIS = Path("/usr/bin/redis-server")


def distribution_postgres() -> list[Path]:
    found = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    return [path for path in sorted(found) if 15 <= int(path.parent.name) <= 18]


async def test_tables_are_the_same_on_the_distributions_servers(
    shared: Path, short_dir: Path, tmp_path: Path
) -> None:
    directories = distribution_postgres()
    if not directories or not REDIS.exists():
        skip_or_fail("no Postgres 15 to 18 or no redis-server of the distribution is installed")
    for bin_dir in directories:
        data = short_dir / f"pg{binaries.postgres_major(bin_dir)}"
        lossy = embedded.Postgres.FAST_AND_LOSSY
        with (
            embedded.Postgres(data, settings=lossy, bin_dir=bin_dir) as postgres,
            embedded.Valkey(data, persist=False, binary=REDIS) as store,
            simulate.serve_in_thread(simulate.load(shared / "golden-gates")) as relay,
        ):
            await migrate(postgres.url)
            with redis.Redis.from_url(store.url) as client:
                info = client.info()
            assert info["redis_version"].startswith(("7.0", "7.2", "7.4", "8."))
            assert "valkey_version" not in info
            with Deployment(
                relay.settings,
                postgres.url,
                store.url,
                log=tmp_path / "up.log",
                arguments=["--until-caught-up"],
            ) as up:
                assert await asyncio.to_thread(up.wait, 60) == 0, up.tail()
            assert differences(shared, "golden-gates", postgres.url) == ""
            await accounts.add_up(postgres.url, store.url, at_least=100)
