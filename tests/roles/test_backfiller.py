"""The backfiller against a host, Redis and Postgres that are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from engine.core import streams, wire
from engine.roles.backfiller import session
from tests.roles import fix_backfill
from tests.roles.fix_backfill import Scene, did


@pytest.fixture
async def scene(
    database: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    # Nobody fills the queue here: what a slow machine would put off does not come back.
    monkeypatch.setattr(session, "SOON_SECONDS", 1e6)
    async with fix_backfill.scene(database, redis_url, str(tmp_path / "spool")) as made:
        yield made


async def test_a_repository_is_appended_whole_and_leaves_the_queue(scene: Scene) -> None:
    made = scene.add("alice", 5)
    await scene.push("alice")
    async with scene.running():
        row = await scene.outcome("alice", "ok")
        await scene.drained()
    entries = await scene.entries("alice")
    slices = [entry for entry in entries if isinstance(entry, wire.Slice)]
    assert [record.path for each in slices for record in each.records] == sorted(made.records)
    assert (slices[0].after, slices[-1].through) == (None, None)
    closing = entries[-1]
    assert isinstance(closing, wire.Closing)
    assert (closing.rev, closing.records, closing.commit) == (made.rev, 5, made.head)
    assert {each.fetch_id for each in slices} == {closing.fetch_id} == {row["fetch_id"]}
    assert (row["records"], row["attempts"], row["queued_at"]) == (5, 0, None)
    assert row["fetched_at"] is not None
    assert row["host"] == scene.server.url
    assert row["data"].startswith("bafyrei")


async def test_a_repository_without_records_is_empty_and_closed_all_the_same(scene: Scene) -> None:
    scene.add("alice", 0)
    await scene.push("alice")
    async with scene.running():
        row = await scene.outcome("alice", "empty")
        await scene.drained()
    assert row["records"] == 0
    assert isinstance((await scene.entries("alice"))[-1], wire.Closing)


async def test_many_repositories_all_come_once(scene: Scene) -> None:
    names = [f"u{number}" for number in range(300)]
    for name in names:
        scene.add(name, 2)
    await scene.push(*names)
    async with scene.running(batch_size=40) as role:
        await scene.drained()
        await scene.until("SELECT count(*) = 300 FROM headrace.repo WHERE outcome = 'ok'")
        assert role._counts()["fetched"] == 300
        told = orjson.loads(orjson.dumps(role.report()))
        assert told["counters"]["outcomes"] == {"ok": 300}
    closings = [entry for entry in await scene.appended() if isinstance(entry, wire.Closing)]
    assert len(closings) == 300
    assert set(scene.server.asked.values()) == {1}


async def test_the_same_repository_queued_twice_is_fetched_once_at_a_time(scene: Scene) -> None:
    scene.add("alice")
    await scene.push("alice", "alice", "alice")
    async with scene.running():
        await scene.drained()
        await scene.outcome("alice", "ok")
    assert scene.server.asked[did("alice")] == 1


async def test_the_fetch_is_announced_before_the_host_is_asked(scene: Scene) -> None:
    scene.add("alice")
    await scene.db.execute("INSERT INTO headrace.repo (did, rev) VALUES ($1, '3abc')", did("alice"))
    seen = []

    async def look(request: object, true: bytes) -> fix_backfill.Answer:
        seen.append(await scene.row_apart("alice"))
        return fix_backfill.car(true)

    scene.server.misdeeds["*"] = look
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "ok")
    assert seen[0]["fetch_id"] is not None
    assert (seen[0]["fetch_rev"], seen[0]["fetched_at"]) == ("3abc", None)


async def test_records_outside_of_the_allow_list_are_left_out_and_counted(scene: Scene) -> None:
    made = fix_backfill.repository("alice", 3)
    made.commit(
        [fix_backfill.Write("com.example.thing/self", fix_backfill.post(1))],
        fix_backfill.tid(fix_backfill.REV_MICROS + 1),
        2,
        "2025-10-09T00:00:01.000Z",
    )
    scene.network.repositories[made.did] = made
    scene.register(made)
    await scene.push("alice")
    async with scene.running() as role:
        row = await scene.outcome("alice", "ok")
        counts = role._counts()
    assert (counts["records"], counts["filtered"], row["records"]) == (3, 1, 4)


async def test_an_entry_that_names_nobody_is_a_dead_letter_and_goes(scene: Scene) -> None:
    await scene.redis.xadd(streams.QUEUE, {"repo": "{not json"})
    await scene.redis.xadd(streams.QUEUE, {"other": "x"})
    scene.add("alice")
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "ok")
        await scene.drained()
    query = "SELECT reason, raw FROM headrace.dead_letter ORDER BY id"
    letters = [tuple(row) for row in await scene.db.fetch(query)]
    assert letters == [("bad_entry", b"{not json"), ("bad_entry", b"(no field `repo`)")]


async def test_a_did_pushed_as_plain_text_is_understood(scene: Scene) -> None:
    scene.add("alice")
    await scene.redis.xadd(streams.QUEUE, {"repo": did("alice")})
    async with scene.running():
        await scene.outcome("alice", "ok")


async def test_an_idle_backfiller_leaves_no_name_behind(scene: Scene) -> None:
    scene.add("alice")
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "ok")
        await scene.drained()
        (consumer,) = await scene.redis.xinfo_consumers(streams.QUEUE, streams.QUEUE_GROUP)
        assert consumer["name"] == b"backfiller/0@test"
    assert await scene.redis.xinfo_consumers(streams.QUEUE, streams.QUEUE_GROUP) == []


async def test_what_is_in_hand_at_a_stop_stays_queued_and_can_be_taken_at_once(
    scene: Scene,
) -> None:
    scene.add("alice")
    scene.server.misdeeds["*"] = fix_backfill.MISDEEDS["silent"]
    await scene.push("alice")
    async with scene.running():
        async with asyncio.timeout(20):
            while not scene.server.asked:
                await asyncio.sleep(0.02)
    (pending,) = await scene.redis.xpending_range(streams.QUEUE, streams.QUEUE_GROUP, "-", "+", 10)
    assert pending["consumer"] == b"backfiller/0@test"
    assert pending["time_since_delivered"] >= 300_000
    scene.server.misdeeds.clear()
    async with scene.running():
        await scene.outcome("alice", "ok")
        await scene.drained()
    assert await scene.redis.xinfo_consumers(streams.QUEUE, streams.QUEUE_GROUP) == []


async def test_what_a_silent_backfiller_left_is_taken_over_beyond_the_first_hundred(
    scene: Scene,
) -> None:
    names = [f"u{number}" for number in range(250)]
    for name in names:
        scene.add(name, 1)
    await scene.push(*names)
    await scene.redis.xgroup_create(streams.QUEUE, streams.QUEUE_GROUP, "0")
    await scene.redis.xreadgroup(streams.QUEUE_GROUP, "gone", {streams.QUEUE: ">"}, count=250)
    ids = [entry_id for entry_id, _ in await scene.redis.xrange(streams.QUEUE)]
    await scene.redis.xclaim(
        streams.QUEUE, streams.QUEUE_GROUP, "gone", 0, ids, idle=400_000, justid=True
    )
    async with scene.running(batch_size=30):
        await scene.drained()
        # On a slow machine some are put off, for the lister to queue again.
        await scene.until(
            "SELECT count(*) = 250 FROM headrace.repo"
            " WHERE outcome = 'ok' OR next_attempt_at > now()"
        )
    assert await scene.db.fetchval("SELECT count(*) FROM headrace.repo WHERE outcome = 'ok'") >= 30


async def test_a_group_that_is_gone_is_made_again(scene: Scene) -> None:
    scene.add("alice")
    scene.add("bob")
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "ok")
        await scene.redis.xgroup_destroy(streams.QUEUE, streams.QUEUE_GROUP)
        await scene.push("bob")
        await scene.outcome("bob", "ok")
        await scene.redis.delete(streams.QUEUE)
        scene.add("carol")
        await scene.push("carol")
        await scene.outcome("carol", "ok")


async def test_an_entry_that_ends_processes_is_given_up(scene: Scene) -> None:
    scene.add("alice")
    await scene.push("alice")
    await scene.redis.xgroup_create(streams.QUEUE, streams.QUEUE_GROUP, "0")
    group, name = streams.QUEUE_GROUP, "backfiller/0@test"
    for number in range(11):
        start = ">" if number == 0 else "0"
        await scene.redis.xreadgroup(group, name, {streams.QUEUE: start})
    async with scene.running():
        row = await scene.outcome("alice", "poison")
        await scene.drained()
    assert row["next_attempt_at"] is None
    assert "never finished" in row["outcome_error"]
    assert await scene.db.fetchval("SELECT count(*) FROM headrace.dead_letter") == 1
    assert scene.server.asked == {}


async def test_backfillers_wait_at_the_mark_and_go_on_by_themselves(scene: Scene) -> None:
    names = [f"u{number}" for number in range(30)]
    for name in names:
        scene.add(name, 10)
    await scene.push(*names)
    async with scene.running(firehose_stream_high_water_mark=100) as role:
        async with asyncio.timeout(20):
            while not role.report()["backpressure"]["now"]:  # type: ignore[index]
                await asyncio.sleep(0.02)
        events = sum(map(int, await scene.redis.hvals(f"{streams.BACKFILL}:events")))
        assert 100 <= events < 250
        assert await scene.redis.xlen(streams.QUEUE) > 10
        # As the indexers do, when they have caught up.
        for shard in range(fix_backfill.SHARDS):
            await scene.redis.hset(f"{streams.BACKFILL}:events", shard, "-100")
        await scene.drained()
    closings = [entry for entry in await scene.appended() if isinstance(entry, wire.Closing)]
    assert len(closings) == 30


async def test_a_session_that_lost_redis_begins_anew_and_loses_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"u{number}" for number in range(60)]
    for name in names:
        scene.add(name, 2)
    await scene.push(*names)

    def lost() -> int:
        return sum("starting again" in record.message for record in caplog.records)

    async with scene.running(batch_size=10) as role, asyncio.timeout(30):
        for kill in range(3):
            while role.report()["counters"]["done"] < 15 * kill + 5:  # type: ignore[index]
                await asyncio.sleep(0)
            await scene.redis.client_kill_filter(_type="normal", skipme=True)
            while lost() <= kill:
                await asyncio.sleep(0.01)
        await scene.drained()
    closed = {(e.did, e.fetch_id) for e in await scene.appended() if isinstance(e, wire.Closing)}
    assert {each for each, _ in closed} == {did(name) for name in names}
    # Where the answer to the last append was lost, the row still waits for just that fetch: the
    # indexer, which has its closing entry, ends it.
    waiting = await scene.db.fetch(
        "SELECT did, fetch_id FROM headrace.repo WHERE outcome IS DISTINCT FROM 'ok'"
    )
    assert {(row["did"], row["fetch_id"]) for row in waiting} <= closed
