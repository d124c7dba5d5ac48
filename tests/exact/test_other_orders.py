"""Repositories shuffled against one another, and writers beside one another: every stable row is
the same.
"""

from __future__ import annotations

import random

import pytest

from tests.exact.conftest import Tell
from tests.exact.indexer import Indexer, deliver_at_once, messages
from tests.exact.seeds import SEEDS
from tests.model.golden import Network
from tests.model.stable import mixed
from tests.native import frames
from tests.system import accounts
from tests.system.golden import judge

pytestmark = [pytest.mark.services, pytest.mark.golden]


@pytest.mark.parametrize("seed", SEEDS)
async def test_shuffled_repositories_make_the_same_stable_rows(
    network: Network, database: str, tell: Tell, seed: int
) -> None:
    rng = random.Random(seed)
    sent = messages(frames.recorded(network.path.parent, network.name))
    order = mixed(network.events, rng)
    indexer = await Indexer.open(database)
    try:
        log = [sent[event.seq].frame(seq) for seq, event in enumerate(order, 1)]
        await indexer.deliver(log, rng)
        await indexer.resolve(network)
    finally:
        await indexer.close()
    assert sum((await accounts.outcomes(database)).values()) == indexer.received > 4_000
    found = await judge(network.path, database)
    tell(f"shuffled, seed {seed:2d}", found)
    assert found.differing.total() > 50  # the order was another one
    assert str(found) == ""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("writers", [pytest.param(2, marks=pytest.mark.slow), 5])
async def test_several_writers_at_once_make_the_same_stable_rows(
    network: Network, database: str, tell: Tell, writers: int, seed: int
) -> None:
    """More batches meet here than between processes that find their streams filled."""
    log = frames.recorded(network.path.parent, network.name)
    received = await deliver_at_once(database, network, log, random.Random(seed), writers)
    assert sum((await accounts.outcomes(database)).values()) == received > 4_000
    found = await judge(network.path, database)
    tell(f"{writers} writers, seed {seed:2d}", found)
    assert str(found) == ""
