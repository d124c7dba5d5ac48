"""The denominator of the benchmarks writes the rows that it says, where it says."""

from __future__ import annotations

import os
from pathlib import Path

import asyncpg

from bench import inputs, measure, plain_copy
from engine import simulate

DIDS = ("did:plc:a", "did:plc:b")


def uri(did: str, number: int) -> str:
    return f"at://{did}/app.bsky.feed.like/{number}"


async def write(conn: asyncpg.Connection) -> inputs.Order:
    """Likes of two repositories by turns, over three batches, and numbers of what they like."""
    likes = [
        (uri(DIDS[n % 2], n), DIDS[n % 2], f"at://x/app.bsky.feed.post/{n}") for n in range(30)
    ]
    await conn.executemany(
        'INSERT INTO "like" (uri, cid, creator, subject, "subjectCid", "createdAt", "indexedAt")'
        " VALUES ($1, 'c', $2, $3, 'c', '2025', '2025')",
        likes,
    )
    await conn.executemany(
        'INSERT INTO post_agg (uri, "likeCount") VALUES ($1, 1)', [(like[2],) for like in likes]
    )
    await conn.execute("INSERT INTO profile_agg (did) VALUES ('did:plc:a'), ('did:plc:unheard')")
    await conn.execute(
        'INSERT INTO notification (did, author, "recordUri", "recordCid", reason, "sortAt")'
        " VALUES ('did:plc:x', 'did:plc:b', $1, 'c', 'like', '2025')",
        likes[29][0],
    )
    places = {like[0]: number * 500 for number, like in enumerate(likes)}
    return inputs.Order(places, {DIDS[0]: 0, DIDS[1]: 500}, 15_000)


async def contents(conn: asyncpg.Connection) -> dict[str, list[str]]:
    tables = ('"like"', "post_agg", "profile_agg", "notification")
    return {
        table: [
            row[0]
            for row in await conn.fetch(
                f"SELECT (to_jsonb(t) - 'id')::text FROM {table} AS t ORDER BY 1"
            )
        ]
        for table in tables
    }


async def test_rows_come_back_batch_by_batch(database: str) -> None:
    """In batches of the log's order, nothing lost, by two connections."""
    conn = await asyncpg.connect(database)
    try:
        order = await write(conn)
        before = await contents(conn)
        rows = await plain_copy.gathered(database, order)
        tables = [{payload.table for payload in batch} for batch in rows.batches]
        copied = await plain_copy.copied(database, os.getpid(), rows, 2)
        assert await contents(conn) == before
    finally:
        await conn.close()
    assert rows.tables == {"like": 30, "notification": 1, "post_agg": 30, "profile_agg": 2}
    assert rows.unplaced == 1  # the numbers of a repository that is not in the log
    assert tables == [
        {"like", "post_agg", "profile_agg"},
        {"like", "post_agg"},
        {"like", "post_agg", "notification"},
        set(),
    ]
    assert copied.bytes > 3000


def test_the_order_is_the_logs(tmp_path: Path) -> None:
    """Each record stands where it was written last, each repository where it was heard of first."""
    counts = simulate.generate(tmp_path / "n", ops=400, seed=5, mix=inputs.GOLDEN)
    order = inputs.order_of(simulate.load(tmp_path / "n"))
    assert order.ops >= counts["ops"] >= 400
    assert len(order.dids) == counts["accounts"]
    assert min(order.dids.values()) == 0
    assert len(order.uris) > 200
    assert max(order.uris.values()) < order.ops
    assert all(order.dids[key.split("/")[2]] <= place for key, place in order.uris.items())


def test_rates_are_between_commits() -> None:
    """A run that becomes half as fast shows as 0.5, whatever it took to begin."""
    progress = measure.Progress([0.0], [0])
    for number in range(1, 101):
        progress.add(5 + number + (max(0, number - 50)), number * 10)
    assert progress.tenths() == {
        "first_tenth_ops_per_second": 10,
        "last_tenth_ops_per_second": 5,
        "last_to_first_tenth": 0.5,
    }
