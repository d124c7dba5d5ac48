"""Accounts that are deleted out of a recorded network: the tables are the slow model's."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.collections import commits
from tests.model import events
from tests.model import golden as recorded
from tests.model.model import Model
from tests.scenarios import dsl
from tests.scenarios.run import Message, World

pytestmark = [pytest.mark.services, pytest.mark.golden]

NETWORK = "golden-gates"
ACCOUNTS = 6
MASKED: dict[tuple[str, str], Callable[[dict[str, Any]], bool]] = {
    ("op_thread_reply", "deletedAt"): lambda row: row["deletedAt"] is not None,
    ("notification", "sortAt"): lambda row: row["reason"] == "unverified",
    ("profile", "createdAt"): lambda row: True,
}
"""Values that are taken from a clock."""

Rows = Counter[tuple[str | None, ...]]


def printed(table: str, columns: list[str], rows: list[dict[str, Any]]) -> Rows:
    def value(row: dict[str, Any], name: str) -> str | None:
        is_masked = MASKED.get((table, name))
        return "NOW" if is_masked and is_masked(row) else recorded.printed(row[name])

    return Counter(tuple(value(row, name) for name in columns) for row in rows)


async def differences(world: World, model: Model) -> dict[str, Any]:
    wrong = {}
    for table, rows in model.tables().items():
        found = await world.rows(table)
        columns = [name for name in (found or rows or [{}])[0] if name != "id"]
        want, got = printed(table, columns, rows), printed(table, columns, found)
        if want != got:
            wrong[table] = (list((want - got).elements())[:5], list((got - want).elements())[:5])
    return wrong


def gone_message(did: str, number: int) -> Message:
    time = f"2026-11-21T23:00:{number:02}.000Z"
    return Message("#account", {"did": did, "time": time, "active": False, "status": "deleted"})


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_what_is_left_is_what_the_model_leaves(
    shared: Path, database: str, seed: int
) -> None:
    """One account after another, in batches and steps cut anywhere."""
    rng = random.Random(seed)
    frames = list(events.frames(shared / NETWORK / "frames.bin"))
    model = Model(now=commits.NOW, is_hosted=lambda did: False)
    world = await World.open(database)
    try:
        await world.play_frames(frames, lambda: rng.random() < 0.02)
        for event in filter(None, map(events.read_frame, frames)):
            model.apply(event)
        # The recording ends with the deletion of one that others had told things.
        await world.play([dsl.Gone(event.did)], lambda: True)
        assert await differences(world, model) == {}
        sizes = Counter(row["did"] for row in model.tables()["record"])
        dids = rng.sample([did for did, size in sizes.items() if size > 20], ACCOUNTS)
        for number, did in enumerate(dids):
            message = gone_message(did, number)
            await world.play([message, dsl.Gone(did)], lambda: True)
            deleted = events.read_frame(message.frame(1_000_000 + number))
            assert deleted is not None
            model.apply(deleted)
            assert await differences(world, model) == {}
        left = await world.rows("record")
        assert sum(sizes.values()) - len(left) == sum(sizes[did] for did in dids) > 300
        assert await world.rows("headrace.deletion") == []
    finally:
        await world.close()
