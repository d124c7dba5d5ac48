"""Kill -9 of a backfiller at every named point: its successor finishes, and nothing is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine import failpoints
from engine.core import wire
from tests.roles import fix_backfill
from tests.roles.fix_backfill import MISDEEDS, did
from tests.system.deployment import Process

pytestmark = pytest.mark.slow

COUNT = 40


@pytest.mark.parametrize("point", failpoints.POINTS["backfiller"])
async def test_kill_9_at_this_point_loses_nothing(
    database: str, redis_url: str, tmp_path: Path, point: str
) -> None:
    async with fix_backfill.scene(database, redis_url, "") as scene:
        names = [f"u{number}" for number in range(COUNT)]
        for name in names:
            scene.add(name, 3)
        scene.server.misdeeds[did("u7")] = MISDEEDS["internal"]
        await scene.push(*names)
        environ = {
            **scene.server.settings,
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "DATA_DIR": str(tmp_path),
        }
        asked = {failpoints.VARIABLE: f"backfiller:{point}:5:kill"}
        arguments = ("run", "backfiller", "--slot", "0", "--host", "h")
        with Process(arguments, environ | asked, tmp_path / "1.log") as run:
            assert run.process is not None
            await asyncio.to_thread(run.process.wait, 60)
            assert run.says(f"failpoint {point} reached")
        with Process(arguments, environ, tmp_path / "2.log"):
            await scene.drained()
            closed = {each.did for each in await scene.appended() if isinstance(each, wire.Closing)}
    assert closed == {did(name) for name in names if name != "u7"}
