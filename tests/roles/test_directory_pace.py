"""The directory is asked no faster than its limit, by all roles together; its server counts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from engine.roles.backfiller import BackfillerRole, load, session
from engine.roles.identity import IdentityRole
from engine.runtime.worker import Role
from engine.settings import IdentitySettings
from tests.roles import fix_backfill
from tests.roles.fix_backfill import Scene, did
from tests.system.deployment import Process

PER_SECOND = 100.0
LOOKING = 2
"""Look-ups that a process makes at a time: as many may arrive together, however long they took."""

BACKFILLERS = 3
FETCHED, DUE = 150, 90


@pytest.fixture
async def scene(
    database: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    monkeypatch.setattr(session, "LOOKING", LOOKING)
    async with fix_backfill.scene(database, redis_url, str(tmp_path / "spool")) as made:
        made.settings = msgspec.structs.replace(
            made.settings,
            plc_requests_per_second=PER_SECOND,
            identity=IdentitySettings(handle_resolver=made.server.url, concurrency=LOOKING),
        )
        yield made


def excess(asked: Sequence[float], per_second: float) -> float:
    """How many more arrived than the limit allows, in the window where that is the most.

    Turns lie ``1 / per_second`` apart. What arrives between two requests, the first left out, had
    its turn between them, or before and was under way: at most as many as are at a time.
    """
    # Of the windows that end here, the one that began where least was due is the fullest.
    most = least = 0.0
    for number, at in enumerate(asked):
        ahead = number - (at - asked[0]) * per_second
        most, least = max(most, ahead - least), min(least, ahead)
    return most


def test_the_count_knows_a_limit_that_is_not_kept() -> None:
    kept = [number / 100.0 for number in range(300)]
    assert excess(kept, 100.0) == pytest.approx(0.0, abs=0.01)
    assert excess(kept, 75.0) > 70.0
    burst = [*kept, *(5.0 + number / 300.0 for number in range(30)), *(6.0 + each for each in kept)]
    assert 15.0 < excess(burst, 100.0) < 25.0
    late = [max(1.0, each) if 0.9 < each < 1.0 else each for each in kept]
    assert 8.0 < excess(late, 100.0) < 11.0


async def work(scene: Scene, *roles: Role) -> None:
    """Have these roles at work until everything is looked up."""
    names = [f"f{number}" for number in range(FETCHED)]
    due = [f"d{number}" for number in range(DUE)]
    for name in (*names, *due):
        scene.add(name, 1)
    insert = "INSERT INTO headrace.identity_due (did, seq, time, forced) VALUES ($1, 1, 't', true)"
    await scene.db.executemany(insert, [(did(name),) for name in due])
    await scene.push(*names)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(role.run(stop)) for role in roles]
    try:
        await scene.drained()
        await scene.until("SELECT NOT EXISTS (SELECT FROM headrace.identity_due)")
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)


def roles_of(scene: Scene) -> list[Role]:
    slots = range(BACKFILLERS)
    fetching = [BackfillerRole(f"backfiller/{slot}@test", scene.settings) for slot in slots]
    return [*fetching, IdentityRole("identity", scene.settings)]


async def test_backfillers_and_identity_keep_the_limit_together(scene: Scene) -> None:
    await work(scene, *roles_of(scene))
    asked = scene.server.directory_asked
    assert len(asked) == FETCHED + DUE
    assert excess(asked, PER_SECOND) <= (BACKFILLERS + 1) * LOOKING


async def test_load_keeps_it_beside_a_backfiller(scene: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "cars"
    folder.mkdir()
    for number in range(60):
        made = scene.add(f"l{number}", 1)
        (folder / f"{number}.car").write_bytes(made.export())
    names = [f"f{number}" for number in range(60)]
    for name in names:
        scene.add(name, 1)
    await scene.push(*names)
    settings = scene.with_settings(concurrency=LOOKING)
    async with scene.running():
        loaded = await load.run(settings, "load@test", folder)
        await scene.drained()
    assert (loaded.repositories, loaded.refused) == (60, [])
    asked = scene.server.directory_asked
    assert len(asked) == 120
    assert excess(asked, PER_SECOND) <= 2 * LOOKING


@pytest.mark.slow
async def test_processes_keep_it_through_a_kill(scene: Scene, tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(600)]
    for name in names:
        scene.add(name, 1)
    await scene.push(*names)
    environ = {
        **scene.server.settings,
        "DATABASE_URL": scene.settings.database_url or "",
        "REDIS_URL": scene.settings.redis_url or "",
        "DATA_DIR": str(tmp_path),
        "PLC_REQUESTS_PER_SECOND": str(PER_SECOND),
        # What is in hand is all that can be looked up.
        "BACKFILLER_BATCH_SIZE": str(LOOKING),
    }

    def backfiller(slot: int) -> Process:
        arguments = ("run", "backfiller", "--slot", str(slot), "--host", "h")
        return Process(arguments, environ, tmp_path / f"{slot}.log")

    async def until_asked(count: int) -> None:
        async with asyncio.timeout(60):
            while len(scene.server.directory_asked) < count:
                await asyncio.sleep(0.01)

    with backfiller(0), backfiller(1) as dies, backfiller(2):
        await until_asked(200)
        dies.signal(signal.SIGKILL)
        dies.stop()
        await until_asked(350)
        with backfiller(1):
            await until_asked(600)
            await scene.drained()
    # Of the one that was killed some may be on their way beside those of its successor.
    assert excess(scene.server.directory_asked, PER_SECOND) <= 4 * LOOKING
