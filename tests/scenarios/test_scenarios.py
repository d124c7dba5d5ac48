"""Every hazard of indexing as a scenario: what must stand in Postgres at the end.

Each scenario runs in one batch, with a batch for each event, and cut at random, always
with DIDs of its own; then all of them run at once, their events mixed.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.scenarios import (
    accounts,
    embeds,
    gates,
    identity,
    mutes,
    posts,
    profiles,
    records,
    subjects,
)
from tests.scenarios.dsl import Scenario
from tests.scenarios.run import Message, World, interleaved

SCENARIOS: dict[str, Scenario] = {}
for each in (
    *records.RECORDS,
    *posts.POSTS,
    *embeds.EMBEDS,
    *gates.GATES,
    *subjects.SUBJECTS,
    *profiles.PROFILES,
    *mutes.MUTES,
    *identity.IDENTITY,
    *accounts.ACCOUNTS,
):
    assert each.id not in SCENARIOS, each.id
    SCENARIOS[each.id] = each

ELSEWHERE = {63: "random logs: tests/collections/test_fold_machine.py"}

WAYS = {"one batch": 0.0, "a batch for each event": 1.0, "batches cut at random": 0.4}

pytestmark = pytest.mark.services
ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(module_database: str) -> AsyncIterator[World]:
    found = await World.open(module_database)
    yield found
    await found.close()


@ON_ONE_LOOP
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
async def test_scenario(world: World, scenario: Scenario) -> None:
    found = []
    for way, chance in WAYS.items():
        rng = random.Random(scenario.id)
        run = world.bind(scenario)
        await world.play(run.steps, lambda: rng.random() < chance)  # noqa: B023
        found += [f"in {way}: {each}" for each in await world.differences(run)]
    assert not found, "\n".join([scenario.why, *found])


def test_every_hazard_has_a_scenario() -> None:
    assert {each.entry for each in SCENARIOS.values()} == set(range(1, 66)) - ELSEWHERE.keys()


@ON_ONE_LOOP
@pytest.mark.parametrize("seed", range(2))
async def test_all_scenarios_mixed(world: World, seed: int) -> None:
    """In batches of many DIDs; then everything is delivered again, and nothing changes."""
    rng = random.Random(seed)
    runs = [world.bind(each) for each in SCENARIOS.values()]
    batches = await world.play(interleaved(runs, rng), lambda: rng.random() < 0.1)
    assert batches >= 3
    found = [f"{run.scenario.id}: {each}" for run in runs for each in await world.differences(run)]
    assert not found, "\n".join(found)
    before = await world.snapshot()
    messages = [step for run in runs for step in run.steps if isinstance(step, Message)]
    await world.play(messages, lambda: rng.random() < 0.1)
    assert await world.snapshot() == before
