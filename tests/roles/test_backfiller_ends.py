"""The end of a fetch is in the table, whoever dies or is slow, and whatever the snapshot says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine import failpoints
from engine.core import outcomes
from engine.roles.backfiller.ledger import Ledger
from engine.roles.indexer import IndexerRole
from engine.simulate import hostile
from tests.roles import fix_backfill
from tests.roles.fix_backfill import Scene, did
from tests.system.deployment import Process

QUEUED = (
    "INSERT INTO headrace.repo (did, queued_at) VALUES ($1, now()) "
    "ON CONFLICT (did) DO UPDATE SET queued_at = now()"
)


@pytest.fixture
async def scene(database: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with fix_backfill.scene(database, redis_url, str(tmp_path / "spool")) as made:
        yield made


@asynccontextmanager
async def indexing(scene: Scene) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(IndexerRole("indexer/0", scene.settings).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def queue(scene: Scene, *names: str) -> None:
    """As a lister does: the row, then the entry."""
    for name in names:
        await scene.db.execute(QUEUED, did(name))
    await scene.push(*names)


def ended(row: Any, outcome: str, records: int) -> None:
    assert (row["outcome"], row["records"]) == (outcome, records)
    assert row["backfilled_rev"] is not None
    assert (row["queued_at"], row["fetch_id"], row["next_attempt_at"]) == (None, None, None)
    assert None not in (row["fetched_at"], row["data"])


@pytest.mark.slow
async def test_a_kill_behind_the_closing_entry_is_mended_when_it_is_indexed(
    scene: Scene, tmp_path: Path
) -> None:
    scene.add("alice", 3)
    await queue(scene, "alice")
    environ = {
        **scene.server.settings,
        "DATABASE_URL": scene.settings.database_url or "",
        "REDIS_URL": scene.settings.redis_url or "",
        "DATA_DIR": str(tmp_path),
        failpoints.VARIABLE: "backfiller:after_closing:1:kill",
    }
    arguments = ("run", "backfiller", "--slot", "0", "--host", "h")
    with Process(arguments, environ, tmp_path / "1.log") as run:
        assert run.process is not None
        await asyncio.to_thread(run.process.wait, 60)
        assert run.says("failpoint after_closing reached")
    row = await scene.row("alice")
    assert row["queued_at"] is not None
    assert (row["outcome"], row["fetched_at"]) == (None, None)
    async with indexing(scene):
        await scene.until("SELECT backfilled_rev IS NOT NULL FROM headrace.repo")
    ended(await scene.row("alice"), "ok", 3)
    assert await scene.db.fetchval("SELECT unfinished FROM headrace.census") == 0


async def test_an_end_that_is_told_after_it_is_indexed_changes_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, may_tell = asyncio.Event(), asyncio.Event()
    telling = Ledger.end

    async def slowly(self: Ledger, end: Any) -> bool:
        await may_tell.wait()
        is_dead = await telling(self, end)
        told.set()
        return is_dead

    monkeypatch.setattr(Ledger, "end", slowly)
    scene.add("alice", 3)
    scene.add("bob", 0)
    await queue(scene, "alice", "bob")
    async with scene.running(), indexing(scene):
        await scene.until("SELECT bool_and(backfilled_rev IS NOT NULL) FROM headrace.repo")
        before = [await scene.row("alice"), await scene.row("bob")]
        ended(before[0], "ok", 3)
        ended(before[1], "empty", 0)
        may_tell.set()
        await told.wait()
        await scene.until("SELECT bool_and(host IS NOT NULL) FROM headrace.repo")
    for name, row in zip(("alice", "bob"), before, strict=True):
        ended(await scene.row(name), row["outcome"], row["records"])


async def test_what_live_ops_noted_for_a_fetch_goes_with_it_when_it_brings_nothing(
    scene: Scene,
) -> None:
    scene.add("alice", 3)
    scene.add("bob", 3)
    scene.server.misdeeds[did("alice")] = hostile.refusing(400, error="RepoTakendown")
    for name in ("alice", "bob"):
        uri = f"at://{did(name)}/app.bsky.feed.post/3k"
        await scene.db.execute("INSERT INTO headrace.touched VALUES ($1, $2, '3k')", did(name), uri)
    await queue(scene, "alice", "bob")
    async with scene.running():
        await scene.outcome("alice", "taken_down")
        await scene.outcome("bob", "ok")
    left = await scene.db.fetch(
        "SELECT did, fetch_id FROM headrace.repo JOIN headrace.touched USING (did)"
    )
    assert [row["did"] for row in left] == [did("bob")]  # whose slices are still to be judged by it
    assert left[0]["fetch_id"] is not None


async def test_what_is_queued_again_stays_queued(scene: Scene) -> None:
    scene.add("alice", 3)
    await queue(scene, "alice")
    async with scene.running():
        await scene.outcome("alice", "ok")
    await scene.db.execute(QUEUED, did("alice"))
    async with indexing(scene):
        await scene.until("SELECT backfilled_rev IS NOT NULL FROM headrace.repo")
    row = await scene.row("alice")
    assert row["queued_at"] is not None
    assert (row["outcome"], row["fetch_id"]) == ("ok", None)


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_snapshot_from_the_future_ends_as_poison(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """A backfiller whose clock is wrong lets it pass; an indexer does not."""
    monkeypatch.setattr(outcomes, "is_ahead", lambda rev, wall_clock: False)
    made = fix_backfill.repository("alice", 3, rev=int((time.time() + 7200) * 1e6))
    scene.network.repositories[made.did] = made
    scene.register(made)
    await queue(scene, "alice")
    if is_late:
        async with scene.running():
            await scene.outcome("alice", "ok")
        async with indexing(scene):
            await scene.outcome("alice", "poison")
    else:
        async with indexing(scene), scene.running():
            await scene.outcome("alice", "poison")
            await scene.drained()
            await scene.until("SELECT host IS NOT NULL FROM headrace.repo")
    row = await scene.row("alice")
    assert row["outcome"] == "poison"
    assert "five minutes ahead" in row["outcome_error"]
    assert (row["fetch_id"], row["backfilled_rev"], row["queued_at"]) == (None, None, None)
    assert await scene.db.fetchval("SELECT count(*) FROM record") == 0
    letters = await scene.db.fetch("SELECT source, reason FROM headrace.dead_letter")
    assert [tuple(each) for each in letters] == [("firehose_backfill", "rev_in_future")]
    assert await scene.db.fetchval("SELECT unfinished FROM headrace.census") == 0
