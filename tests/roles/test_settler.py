"""Two owners that write at the same moment: what neither saw of the other is judged after all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine.core import codec, streams
from engine.roles.indexer.looker import Looker
from engine.roles.indexer.stages import Stages
from tests.collections import commits
from tests.exact.indexer import Indexer, front
from tests.scenarios.run import SHARDS

pytestmark = pytest.mark.services

ALICE, BOB, CAROL = (f"did:plc:{letter * 24}" for letter in "abc")
POST, THREADGATE, POSTGATE = (
    f"app.bsky.feed.{name}" for name in ("post", "threadgate", "postgate")
)
ROOT, REPLY, BELOW = f"at://{ALICE}/{POST}/1", f"at://{BOB}/{POST}/1", f"at://{CAROL}/{POST}/1"

POSTS = """SELECT uri, "invalidReplyRoot" AS invalid, "violatesThreadGate" AS gated,
    "violatesEmbeddingRules" AS embeds FROM post ORDER BY uri"""


class Owner(Indexer):
    """An indexer of some shards, of which each step is done by itself."""

    looking: Looker

    async def read(self, did: str, seq: int, **records: dict[str, Any]) -> codec.Batch:
        """A batch of one commit of this repository: collections' last words to records."""
        ops = [
            commits.op("+", f"app.bsky.feed.{name}/1", record) for name, record in records.items()
        ]
        entry = commits.commit(did, seq, ops)
        shard = streams.shard_of(did, SHARDS)
        self.decoded = await self._writer.decode([front(shard, [(b"%d-1" % seq, entry)])])
        self.looking = Looker(self._identity, self._writer.statements, Stages(), together=True)
        assert isinstance(self.decoded.batch, codec.Batch)
        return self.decoded.batch

    async def prepare(self) -> None:
        """Look everything up for what was read."""
        self.since = self.settler.looked
        self.changes = await self.looking.prepare(self.decoded.batch, None)

    async def write(self) -> None:
        await self._writer.write(self.decoded, self.changes)

    async def turn(self, since: str | None = None) -> int:
        """A turn of the settler, whenever the last one was."""
        self.settler._worked_at = float("-inf")
        return await self.settler.work(since)


def about(uri: str) -> dict[str, str]:
    return {"uri": uri, "cid": commits.cid_text(commits.cid_of(uri.encode()))}


def post(parent: str = "", root: str = ROOT, quote: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"$type": POST, "text": "text", "createdAt": commits.TIME}
    if parent:
        made["reply"] = {"parent": about(parent), "root": about(root)}
    if quote:
        made["embed"] = {"$type": "app.bsky.embed.record", "record": about(quote)}
    return made


CLOSED = {"$type": THREADGATE, "post": ROOT, "allow": [], "createdAt": commits.TIME}
UNEMBEDDED = {
    "$type": POSTGATE,
    "post": ROOT,
    "embeddingRules": [{"$type": f"{POSTGATE}#disableRule"}],
    "createdAt": commits.TIME,
}


@pytest.fixture
async def owners(database: str) -> AsyncIterator[tuple[Owner, Owner, Owner]]:
    """Of Alice's, Bob's and Carol's repositories."""
    shards = [streams.shard_of(did, SHARDS) for did in (ALICE, BOB, CAROL)]
    assert len(set(shards)) == 3
    opened = [await Owner.open(database, [shard]) for shard in shards]
    for owner in opened:
        await owner.settler.say()
    yield opened[0], opened[1], opened[2]
    for owner in opened:
        await owner.close()


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def at_once(*owners: Owner) -> None:
    """All look up before any of them writes."""
    for owner in owners:
        await owner.prepare()
    for owner in owners:
        assert owner.changes is not None
        await owner.write()


async def settle(*owners: Owner) -> int:
    """All turn until nothing is left."""
    settled = 0
    for _ in range(6):
        for owner in owners:
            settled += await owner.turn()
    return settled


async def verdicts(conn: asyncpg.Connection[Any]) -> dict[str, tuple[Any, ...]]:
    return {row["uri"]: tuple(row)[1:] for row in await conn.fetch(POSTS)}


async def told(conn: asyncpg.Connection[Any]) -> list[tuple[str, str, str]]:
    rows = await conn.fetch('SELECT did, "recordUri", reason FROM notification ORDER BY 1, 2, 3')
    return [tuple(row) for row in rows]


GOOD, INVALID, GATED = (None, None, None), (True, False, None), (False, True, None)


async def test_a_reply_and_its_post_at_the_same_moment(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any]
) -> None:
    alice, bob, carol = owners
    await alice.read(ALICE, 1, post=post())
    await bob.read(BOB, 2, post=post(ROOT))
    await carol.read(CAROL, 3, post=post(REPLY))
    await at_once(alice, bob, carol)
    assert await verdicts(conn) == {ROOT: GOOD, REPLY: INVALID, BELOW: INVALID}
    assert await told(conn) == []
    assert await settle(*owners) == 2
    assert await verdicts(conn) == {ROOT: GOOD, REPLY: GOOD, BELOW: GOOD}
    assert await told(conn) == [
        (ALICE, REPLY, "reply"), (ALICE, BELOW, "reply"), (BOB, BELOW, "reply"),
    ]  # fmt: skip
    assert await conn.fetchval("SELECT count(*) FROM headrace.unsettled") == 0
    counts = await conn.fetch('SELECT uri, "replyCount" AS n FROM post_agg ORDER BY 1')
    assert {row["uri"]: row["n"] for row in counts if row["n"]} == {ROOT: 1, REPLY: 1}


async def test_a_reply_and_the_gate_at_the_same_moment(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any]
) -> None:
    alice, bob, _ = owners
    await alice.read(ALICE, 1, post=post())
    await at_once(alice)
    await alice.read(ALICE, 2, threadgate=CLOSED)
    await bob.read(BOB, 3, post=post(ROOT))
    await at_once(alice, bob)
    assert (await verdicts(conn))[REPLY] == GOOD
    assert await told(conn) == [(ALICE, REPLY, "reply")]
    assert await settle(*owners) == 1
    assert (await verdicts(conn))[REPLY] == GATED
    assert await told(conn) == []
    assert await conn.fetchval('SELECT "replyCount" FROM post_agg WHERE uri = $1', ROOT) == 0


async def test_a_quote_and_the_gate_at_the_same_moment(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any]
) -> None:
    alice, bob, _ = owners
    await alice.read(ALICE, 1, post=post(), postgate=UNEMBEDDED)
    await bob.read(BOB, 2, post=post(quote=ROOT))
    await at_once(alice, bob)
    assert await settle(*owners) == 1
    assert (await verdicts(conn))[REPLY] == (None, None, True)
    assert await told(conn) == []


async def test_a_reply_under_a_verdict_that_changes_at_the_same_moment(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any]
) -> None:
    """Carol still sees that Bob's reply hangs on nothing, while what it hangs on comes."""
    alice, bob, carol = owners
    await bob.read(BOB, 2, post=post(ROOT))
    await at_once(bob)
    await settle(*owners)
    await carol.read(CAROL, 3, post=post(REPLY))
    await carol.prepare()
    await alice.read(ALICE, 1, post=post())
    await alice.prepare()
    assert alice.changes is not None, "what it is late for does not keep it waiting"
    await alice.write()
    await carol.write()
    assert await verdicts(conn) == {ROOT: GOOD, REPLY: INVALID, BELOW: INVALID}
    assert await settle(*owners) == 3, "Alice and Carol noted the one, Carol the other"
    assert (await verdicts(conn))[BELOW] == GOOD
    assert (ALICE, BELOW, "reply") in await told(conn)


async def test_nothing_is_settled_before_all_that_was_looked_up_earlier_is_committed(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any]
) -> None:
    alice, bob, carol = owners
    await alice.read(ALICE, 1, post=post())
    await alice.prepare()
    await bob.read(BOB, 2, post=post(ROOT))
    await at_once(bob)
    for _ in range(3):
        assert await bob.turn() + await carol.turn() + await alice.turn(alice.since) == 0
    assert await conn.fetchval("SELECT count(*) FROM headrace.unsettled") == 1
    await alice.write()
    assert await settle(*owners) == 1
    assert (await verdicts(conn))[REPLY] == GOOD


async def test_an_owner_without_a_backend_is_not_waited_for(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any]
) -> None:
    alice, bob, carol = owners
    await bob.read(BOB, 2, post=post(ROOT))
    await at_once(bob)
    await bob.turn()
    await carol.turn()
    await bob.turn()
    assert await conn.fetchval("SELECT count(*) FROM headrace.unsettled") == 1, "alice said nothing"
    await alice._writer.conn.close()
    while await conn.fetchval("SELECT count(*) FROM headrace.unsettled"):
        await carol.turn()
        await bob.turn()


async def test_the_next_owner_settles_what_the_former_one_noted(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any], database: str
) -> None:
    alice, bob, _ = owners
    await alice.read(ALICE, 1, post=post())
    await bob.read(BOB, 2, post=post(ROOT))
    await at_once(alice, bob)
    for owner in owners:
        await owner._writer.lease.give_back(owner._writer.lease.shards)
    alone = await Owner.open(database)
    try:
        assert await alone.turn() == 1
        assert (await verdicts(conn))[REPLY] == GOOD
        await alone.turn()
        await alone.read(CAROL, 3, post=post(f"at://{CAROL}/{POST}/none"))
        await alone._writer.write(alone.decoded)
        assert await conn.fetchval("SELECT count(*) FROM headrace.unsettled") == 0
    finally:
        await alone.close()


async def test_a_reply_deleted_under_another_verdict_than_was_looked_up_counts_once(
    owners: tuple[Owner, Owner, Owner], conn: asyncpg.Connection[Any]
) -> None:
    """The gate takes it from the count; so its deletion does not."""
    alice, bob, _ = owners
    await alice.read(ALICE, 1, post=post())
    await at_once(alice)
    await bob.read(BOB, 3, post=post(ROOT))
    await at_once(bob)
    await alice.read(ALICE, 2, threadgate=CLOSED)
    await at_once(alice)
    for owner in (*owners, bob):
        assert await owner.turn() == 0
    shard = streams.shard_of(BOB, SHARDS)
    entry = commits.commit(BOB, 4, [commits.op("-", f"{POST}/1")])
    bob.decoded = await bob._writer.decode([front(shard, [(b"4-1", entry)])])
    await bob.prepare()
    assert await alice.turn() == 1
    assert await conn.fetchval('SELECT "replyCount" FROM post_agg WHERE uri = $1', ROOT) == 0
    done = await bob._writer.write(bob.decoded, bob.changes)
    assert done.replayed == 1
    assert await conn.fetchval('SELECT "replyCount" FROM post_agg WHERE uri = $1', ROOT) == 0
    assert set(await verdicts(conn)) == {ROOT}
