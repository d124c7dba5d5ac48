"""Who deletes a confirmed account, when, and what becomes of a deletion that was cut short."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine import errors
from engine.adapters import postgres
from engine.core import streams
from engine.roles.indexer import deletion
from engine.roles.indexer.lease import Lease
from tests.scenarios import dsl
from tests.scenarios.dsl import ALICE, BOB, C, account, commit, ref, reply, scenario
from tests.scenarios.run import RELAY, SHARDS, Bound, World, bind

pytestmark = pytest.mark.services

LIKES = 10
POST = BOB / "post/1"
HERS = scenario(
    "hers",
    "records of ALICE, and one post of BOB that all of them count for",
    commit(BOB, C("post/1")),
    commit(ALICE, *(C(f"post/{n}", reply=reply(POST)) for n in range(LIKES))),
    commit(ALICE, C("like/1", subject=ref(POST)), C("follow/1", subject=BOB)),
    account(ALICE, status="deleted"),
)
CONFIRM = "UPDATE headrace.deletion SET confirmed_at = now() - make_interval(hours => $1)"


class Scene:
    """A database with a deletion that is confirmed."""

    def __init__(self, database: str, world: World, run: Bound) -> None:
        self.database = database
        self.world = world
        self.run = run
        self.did = f"did:plc:alice{run.mark}"

    @property
    def deleter(self) -> deletion.Deleter:
        return self.world.deleter

    async def sql(self, statement: str, *parameters: object) -> None:
        await self.deleter.conn.execute(statement, *parameters)

    async def records(self) -> int:
        found = await self.world.rows("record")
        return sum(row["did"] == self.did for row in found)

    async def waiting(self) -> list[dict[str, Any]]:
        return await self.world.rows("headrace.deletion")

    async def counts(self) -> tuple[int, int, int]:
        """Replies and likes of BOB's post, followers of BOB."""
        [post] = [r for r in await self.world.rows("post_agg") if "bob" in r["uri"]]
        [bob] = [r for r in await self.world.rows("profile_agg") if "bob" in r["did"]]
        return post["replyCount"], post["likeCount"], bob["followersCount"]

    async def work(self) -> int:
        async def renew() -> None:
            pass

        return await self.deleter.work(renew)

    async def pass_on(self, seq: int, shards: int = SHARDS) -> None:
        """So much of the relay is held by that many shards."""
        await self.sql(
            "UPDATE headrace.position SET relays = jsonb_build_object($1::text,"
            " jsonb_build_object('seq', $2::bigint)) WHERE shard < $3",
            f"{RELAY}/1",
            seq,
            shards,
        )


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    world = await World.open(database)
    run = world.bind(HERS)
    await world.play(run.steps, lambda: True)
    scene = Scene(database, world, run)
    await scene.sql(CONFIRM, 0)
    assert await scene.records() == LIKES + 2
    assert await scene.counts() == (LIKES, 1, 1)
    yield scene
    await scene.world.close()


async def test_it_waits_until_every_shard_holds_what_came_before(scene: Scene) -> None:
    [asked] = await scene.waiting()
    assert asked["shard"] == streams.shard_of(scene.did, SHARDS)
    for seq, shards in ((asked["seq"] - 1, SHARDS), (asked["seq"], SHARDS - 1)):
        await scene.pass_on(seq, shards)
        assert await scene.work() == 0
        assert await scene.records() == LIKES + 2
    await scene.pass_on(asked["seq"])
    assert await scene.work() == 1
    assert await scene.records() == 0
    assert await scene.counts() == (0, 0, 0)
    assert await scene.waiting() == []


async def test_it_does_not_wait_for_ever_for_a_shard_that_does_not_get_on(scene: Scene) -> None:
    await scene.sql(CONFIRM, 2)
    await scene.work()
    assert await scene.records() == 0


async def test_only_the_owner_of_the_shard_deletes(scene: Scene) -> None:
    await scene.sql(CONFIRM, 2)
    [asked] = await scene.waiting()
    lease = scene.deleter.lease
    others = {shard: token for shard, token in lease.tokens.items() if shard != asked["shard"]}
    scene.world.deleter = dataclasses.replace(
        scene.deleter, lease=Lease(lease.conn, lease.sql, others)
    )
    await scene.work()
    assert await scene.records() == LIKES + 2


async def test_what_is_not_confirmed_is_not_deleted(scene: Scene) -> None:
    await scene.sql("UPDATE headrace.deletion SET confirmed_at = NULL")
    await scene.pass_on(1_000)
    await scene.work()
    await scene.deleter.delete(scene.did)
    assert await scene.records() == LIKES + 2
    assert len(await scene.waiting()) == 1


@pytest.mark.parametrize(
    "then",
    [account(ALICE, active=True), account(ALICE, status="takendown"), commit(ALICE, C("post/99"))],
    ids=["active", "takendown", "commit"],
)
async def test_an_event_of_the_account_calls_it_off(scene: Scene, then: dsl.Event) -> None:
    """It was confirmed before the event came: what the host said then is of then."""
    later = scenario("later", "", *HERS.steps, then)
    steps = bind(later, scene.run.number).steps[-1:]
    await scene.world.play(steps, lambda: True)
    before = await scene.records()
    assert before >= LIKES + 2
    assert not await scene.deleter.delete(scene.did)
    assert await scene.records() == before
    assert await scene.waiting() == []


async def test_what_an_owner_began_the_next_one_finishes_before_anything_else(
    scene: Scene,
) -> None:
    class Killed(Exception):
        pass

    async def killed() -> None:
        raise Killed

    await scene.pass_on(1_000)
    with pytest.raises(Killed):
        await scene.deleter.work(killed)
    # One step: some records are gone, and what they counted for.
    left = await scene.records()
    assert left == LIKES + 2 - scene.deleter.step_rows
    assert sum(await scene.counts()) == left
    await scene.world.close()
    scene.world = await World.open(scene.database)
    await scene.deleter.finish()
    assert await scene.records() == 0
    assert await scene.counts() == (0, 0, 0)
    assert await scene.waiting() == []


async def test_what_was_begun_cannot_be_called_off(scene: Scene) -> None:
    await scene.sql("UPDATE headrace.deletion SET started_at = now()")
    await scene.sql("UPDATE headrace.repo SET rev = 'later'")
    await scene.deleter.finish()
    assert await scene.records() == 0


async def test_what_was_not_begun_is_left_for_later(scene: Scene) -> None:
    await scene.pass_on(1_000)
    await scene.deleter.finish()
    assert await scene.records() == LIKES + 2


async def test_a_deletion_that_never_gets_its_locks_is_an_error_and_loses_nothing(
    scene: Scene,
) -> None:
    await scene.sql(
        "CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE SQLSTATE '40P01'; END $$"
    )
    await scene.sql("CREATE TRIGGER deadlock BEFORE DELETE ON record EXECUTE FUNCTION deadlock()")
    with pytest.raises(errors.StoreError):
        await scene.deleter.delete(scene.did)
    assert await scene.records() == LIKES + 2
    assert await scene.counts() == (LIKES, 1, 1)
    await scene.sql("DROP TRIGGER deadlock ON record")
    await scene.deleter.delete(scene.did)
    assert await scene.counts() == (0, 0, 0)


async def test_an_own_thread_goes_also_where_its_posts_are_gone_already(scene: Scene) -> None:
    """And whatever order the database gives to texts."""
    rows = [(f"at://{scene.did}/app.bsky.feed.post/root", f"at://{scene.did}/app.bsky.feed.post/x")]
    rows.append((rows[0][0].replace("alice", "alice2"), rows[0][1].replace("alice", "alice2")))
    for ordered in (True, False):
        if not ordered:
            scene.deleter.sql = {**scene.deleter.sql, "is_ordered_by_bytes": "SELECT false"}
            await scene.sql(
                "INSERT INTO headrace.deletion (did, shard, relay, generation, seq, time,"
                " confirmed_at, started_at) VALUES ($1, 0, '', 0, 0, '', now(), now())",
                scene.did,
            )
        for root, uri in rows:
            await scene.sql(
                "INSERT INTO op_thread_reply VALUES ($1, $1, $2, 'then') ON CONFLICT DO NOTHING",
                root,
                uri,
            )
        await scene.deleter.delete(scene.did)
        left = await scene.world.rows("op_thread_reply")
        assert [row["uri"] for row in left] == [rows[1][1]]


def test_any_text_is_an_array_of_itself() -> None:
    assert postgres.array_literal([]) == "{}"
    assert postgres.array_literal(['a"b', "c\\d", "NULL", "", ","]) == (
        '{"a\\"b","c\\\\d","NULL","",","}'
    )
