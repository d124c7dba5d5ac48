"""One relay's log through one writer: the reference's tables, whatever the batches and repeats."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.exact.indexer import Indexer, messages
from tests.exact.seeds import SEEDS
from tests.model.golden import Network
from tests.native import frames
from tests.system import accounts
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(240)]


@asynccontextmanager
async def indexing(network: Network, database: str) -> AsyncIterator[Indexer]:
    """An indexer; at the end its tables are the reference's, and every op has an outcome."""
    indexer = await Indexer.open(database)
    try:
        yield indexer
        await indexer.resolve(network)
    finally:
        await indexer.close()
    assert differences(network.path.parent, network.name, database) == ""
    assert sum((await accounts.outcomes(database)).values()) == indexer.received > 4_000


@pytest.mark.parametrize("seed", SEEDS)
async def test_batches_cut_at_random(network: Network, database: str, seed: int) -> None:
    rng = random.Random(seed)
    log = frames.recorded(network.path.parent, network.name)
    async with indexing(network, database) as indexer:
        while log:
            part, log = log[: (size := rng.choice([1, 20, 100, 500]))], log[size:]
            await indexer.deliver(part, rng)
            if rng.random() < 0.5:
                await indexer.resolve(network)
    assert indexer.batches > 10
    assert indexer.prepared > 5


@pytest.mark.parametrize(
    "network",
    [pytest.param("golden", marks=pytest.mark.slow), "golden-gates"],
    indirect=True,
)
async def test_every_batch_of_one_event(network: Network, database: str) -> None:
    log = frames.recorded(network.path.parent, network.name)
    async with indexing(network, database) as indexer:
        await indexer.deliver_one_by_one(log, random.Random(1))
    assert indexer.batches > 1_500
    assert indexer.prepared > 500


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("numbers", ["old", "new"])
async def test_delivered_twice(network: Network, database: str, numbers: str, seed: int) -> None:
    """Some stretches at once, in the end everything; under new numbers, or under its own."""
    rng = random.Random(seed)
    log = frames.recorded(network.path.parent, network.name)
    sent = list(messages(log).values())
    fresh = itertools.count(1)

    def stretch(first: int, last: int) -> list[bytes]:
        if numbers == "old":
            return log[first:last]
        return [message.frame(next(fresh)) for message in sent[first:last]]

    async with indexing(network, database) as indexer:
        at = 0
        while at < len(log):
            end = at + rng.choice([1, 100, 500])
            await indexer.deliver(stretch(at, end), rng)
            await indexer.deliver(stretch(rng.randrange(end), end), rng)
            at = end
        before = await indexer.snapshot()
        await indexer.deliver(stretch(0, len(log)), rng)
        assert await indexer.snapshot() == before
    outcomes = await accounts.by_outcome(database)
    assert outcomes["duplicate"] > len(log)
