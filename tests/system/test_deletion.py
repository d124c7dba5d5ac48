"""An account that is deleted while a whole deployment is at work, and an owner that is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine import failpoints, simulate
from tests.native import frames
from tests.system.deployment import deployed, settle

pytestmark = [
    pytest.mark.services,
    pytest.mark.golden,
    pytest.mark.slow,
    pytest.mark.timeout(120),
]

NETWORK = "golden-gates"
RECOUNTED = {
    "likes": (
        'SELECT count(*) FROM post_agg a WHERE "likeCount" <>'
        ' (SELECT count(*) FROM "like" WHERE subject = a.uri)'
    ),
    "reposts": (
        'SELECT count(*) FROM post_agg a WHERE "repostCount" <>'
        " (SELECT count(*) FROM repost WHERE subject = a.uri)"
    ),
    "replies": (
        'SELECT count(*) FROM post_agg a WHERE "replyCount" <> (SELECT count(*) FROM post'
        ' WHERE "replyParent" = a.uri AND "violatesThreadGate" IS NOT TRUE)'
    ),
    "quotes": (
        "SELECT count(*) FROM headrace.quote_count c WHERE quotes <>"
        ' (SELECT count(*) FROM quote WHERE "subjectCid" = c.cid)'
    ),
    "followers": (
        'SELECT count(*) FROM profile_agg a WHERE "followersCount" <>'
        ' (SELECT count(*) FROM follow WHERE "subjectDid" = a.did)'
    ),
    "follows": (
        'SELECT count(*) FROM profile_agg a WHERE "followsCount" <>'
        " (SELECT count(*) FROM follow WHERE creator = a.did)"
    ),
    "posts": (
        'SELECT count(*) FROM profile_agg a WHERE "postsCount" <>'
        " (SELECT count(*) FROM post WHERE creator = a.did)"
    ),
}
"""How many stored counts are wrong."""

THEIRS = {
    "actor": "did", "actor_sync": "did", "record": "did", "post": "creator", "profile": "creator",
    '"like"': "creator", "repost": "creator", "follow": "creator", "actor_block": "creator",
    "list": "creator", "list_item": "creator", "list_block": "creator", "starter_pack": "creator",
    "feed_generator": "creator", "labeler": "creator", "thread_gate": "creator",
    "post_gate": "creator", "verification": "creator", "feed_item": '"originatorDid"',
    "notification": "did",
}  # fmt: skip


async def of_account(conn: asyncpg.Connection[Any], did: str) -> dict[str, int]:
    """Rows of an account by table, where there are any."""
    counts = {}
    for table, column in THEIRS.items():
        counts[table] = await conn.fetchval(
            f"SELECT count(*) FROM {table} WHERE {column} = $1", did
        )
    return {table: count for table, count in counts.items() if count}


@pytest.mark.parametrize("indexers", [1, 3])
async def test_an_owner_killed_in_the_middle_of_a_deletion_loses_nothing_of_it(
    shared: Path, tmp_path: Path, database: str, redis_url: str, indexers: int
) -> None:
    network = simulate.load(shared / NETWORK)
    environment = {failpoints.VARIABLE: "indexer:inside_deletion:1:kill"}
    log = tmp_path / "up.log"
    conn = await asyncpg.connect(database)
    with deployed(network, log, database, redis_url, indexers=indexers, extra=environment) as (
        run,
        relay,
    ):
        last = network.frames.last_seq
        settle(run, last)
        did = await conn.fetchval(
            'SELECT did FROM record JOIN actor USING (did) WHERE "upstreamStatus" IS NULL'
            " GROUP BY did ORDER BY count(*) DESC, did LIMIT 1"
        )
        assert len(await of_account(conn, did)) > 12
        wrong = {name: await conn.fetchval(query) for name, query in RECOUNTED.items()}
        relay.network.repos[:] = [repo for repo in network.repos if repo["did"] != did]
        gone = {"did": did, "seq": last + 1, "time": "2026-11-21T23:00:00.000Z", "active": False}
        relay.publish(frames.frame("#account", {**gone, "status": "deleted"}))
        run.until_says("failpoint inside_deletion reached")
        run.wait_for(
            "nothing to delete", lambda status: status["deletions"] == {"due": 0, "later": 0}
        )
        settle(run, last + 1)
        assert run.says("account deleted")
    assert await of_account(conn, did) == {}
    if indexers == 1:
        assert wrong == dict.fromkeys(RECOUNTED, 0)
    found = {name: await conn.fetchval(query) for name, query in RECOUNTED.items()}
    assert all(found[name] <= wrong[name] for name in RECOUNTED), (found, wrong)
    await conn.close()
