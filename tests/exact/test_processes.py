"""Whole deployments over real sockets, Valkey and Postgres: one indexer, and several."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from engine.ops import schema, schema_state
from tests.exact.conftest import Tell
from tests.exact.seeds import COUNT
from tests.model.golden import Network
from tests.system import accounts
from tests.system.deployment import deployed, settle
from tests.system.golden import differences, judge

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(300)]

TINY, LARGE = "1", "1000000"
"""Entries of a batch: one of each shard, or all that fits into its bytes."""


OFTEN = {("golden", LARGE, 16), ("golden-gates", TINY, 5)}
SIZES = [
    pytest.param(*each, marks=() if each in OFTEN else pytest.mark.slow)
    for each in itertools.product(("golden", "golden-gates"), (TINY, LARGE), (1, 5, 16))
]
"""Network, entries of a batch, shards; a few of them are run by `make test`."""

SEVERAL = [
    pytest.param("golden", 3, 0),
    pytest.param("golden-gates", 3, 1),
    *(
        pytest.param(*each, marks=pytest.mark.slow)
        for each in itertools.product(("golden", "golden-gates"), (2, 5), range(COUNT))
    ),
]
"""Network, indexers, seed; a few of them are run by `make test`."""


async def empty(database: str, shards: int) -> None:
    """The data plane's tables and ours, for this many shards."""
    conn = await asyncpg.connect(database)
    try:
        await schema.create(conn, "public")
        await schema_state.ensure_state(conn, "headrace", shards)
    finally:
        await conn.close()


def index(
    network: Network, tmp_path: Path, database: str, redis_url: str, indexers: int, **extra: str
) -> None:
    """Carry the whole network into the database, until every stream is empty."""
    log = tmp_path / "up.log"
    with deployed(network.path, log, database, redis_url, indexers=indexers, extra=extra) as (
        run,
        relay,
    ):
        settle(run, relay.network.frames.last_seq)


@pytest.mark.parametrize(("network", "size", "shards"), SIZES, indirect=["network"])
async def test_one_indexer_makes_the_tables_of_the_reference(
    network: Network,
    tmp_path: Path,
    database_factory: Callable[[str], str],
    redis_url: str,
    size: str,
    shards: int,
) -> None:
    database = database_factory("template0")
    await empty(database, shards)
    index(network, tmp_path, database, redis_url, 1, INDEXER_BATCH_SIZE=size)
    assert differences(network.path.parent, network.name, database) == ""
    await accounts.add_up(database, redis_url, at_least=4_000)


@pytest.mark.parametrize(("network", "indexers", "seed"), SEVERAL, indirect=["network"])
async def test_several_indexers_make_the_same_stable_rows(
    network: Network,
    tmp_path: Path,
    database: str,
    redis_url: str,
    tell: Tell,
    indexers: int,
    seed: int,
) -> None:
    rng = random.Random(seed)
    sizes = {
        "INDEXER_BATCH_SIZE": str(rng.choice([16, 100, 1_000])),
        "INGESTER_BATCH_SIZE": str(rng.choice([1, 20, 1_000])),
    }
    index(network, tmp_path, database, redis_url, indexers, **sizes)
    found = await judge(network.path, database)
    tell(f"{indexers} indexers, seed {seed:2d}", found)
    await accounts.add_up(database, redis_url, at_least=4_000)
    assert str(found) == ""
