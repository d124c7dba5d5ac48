"""Labels through a whole deployment that is killed again and again: the table of a plain model."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine import failpoints, simulate
from engine.simulate.server import Server
from tests.conftest import run_async
from tests.fix_labels import Rows, World
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

POINTS = tuple(failpoints.POINTS["labels"])


async def look(database: str) -> tuple[Rows, dict[str, int]]:
    """The table, and the highest seq held of each host."""
    conn = await asyncpg.connect(database)
    try:
        # Of one instant: a batch may be committed at any time.
        async with conn.transaction(isolation="repeatable_read"):
            found = await conn.fetch("SELECT * FROM label")
            held = await conn.fetch(
                "SELECT host, max(seq) AS seq FROM headrace.label_position GROUP BY host"
            )
    finally:
        await conn.close()
    rows: Any = {
        tuple(row[name] for name in ("src", "uri", "cid", "val")): (
            row["neg"],
            row["cts"],
            row["exp"],
        )
        for row in found
    }
    return rows, {row["host"]: row["seq"] for row in held}


async def outcomes(database: str) -> dict[str, int]:
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch(
            "SELECT key, sum(value::bigint)::bigint AS n FROM headrace.label_position "
            "CROSS JOIN LATERAL jsonb_each_text(outcomes) GROUP BY key"
        )
    finally:
        await conn.close()
    return {row["key"]: row["n"] for row in rows}


@contextlib.contextmanager
def labelled(
    world: World,
    log: Path,
    database: str,
    redis_url: str,
    *,
    rate: float = 0.0,
    arguments: tuple[str, ...] = (),
    failpoint: str = "",
) -> Iterator[tuple[Deployment, Server]]:
    """`headrace up --roles labels` on the world's labelers."""
    with simulate.serve_in_thread(world.network) as server:
        for feed in server.labelers.values():
            feed.rate = rate
        environment = {"LABELS_LABELERS": ",".join(server.labelers), failpoints.VARIABLE: failpoint}
        with Deployment(
            server.settings,
            database,
            redis_url,
            log=log,
            extra=environment,
            arguments=("--roles", "labels", *arguments),
        ) as run:
            yield run, server


def until_held(run: Deployment, world: World, database: str, seconds: float = 60) -> Rows:
    """Wait until everything that the labelers said is held; the table."""

    def held() -> Rows | None:
        rows, seqs = run_async(look(database))
        last = sum(labeler.seq for labeler in world.labelers)
        return rows if sum(seqs.values()) == last else None

    found: Rows = run.until("all labels", held, seconds)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_kill_9_at_this_point_leaves_the_same_labels(
    tmp_path: Path, database: str, redis_url: str, point: str
) -> None:
    world = World(2)
    labels = world.fill(80, seed=5)
    asked = f"labels:{point}:{1 if 'trim' in point else 3}:kill"
    with labelled(
        world,
        tmp_path / "up.log",
        database,
        redis_url,
        # Slow enough for several batches, and for entries to be old enough to be trimmed.
        rate=40.0,
        failpoint=asked,
    ) as (run, _):
        run.until_says(f"failpoint {point} reached")
        assert until_held(run, world, database) == world.expected
        assert run_async(outcomes(database))["applied"] == labels


def through_kills(
    tmp_path: Path, database: str, redis_url: str, *, messages: int, kills: int, rate: float
) -> int:
    """Many labels while the role is killed and its connections are cut; how many there were."""
    world = World(3)
    labels = world.fill(messages, seed=6, subjects=messages)
    dice = random.Random(8)
    with labelled(world, tmp_path / "up.log", database, redis_url, rate=rate) as (run, server):
        run.wait_for("the role", lambda status: run.pids("labels"))
        for _ in range(kills):
            time.sleep(dice.random())
            dice.choice(list(server.labelers.values())).disconnect()
            run.kill("labels")
        for feed in server.labelers.values():
            feed.rate = 0.0
        assert until_held(run, world, database, 200) == world.expected
        assert run_async(outcomes(database))["applied"] == labels
    return labels


def test_labels_through_kills(tmp_path: Path, database: str, redis_url: str) -> None:
    labels = through_kills(tmp_path, database, redis_url, messages=150, kills=1, rate=30.0)
    assert labels > 2_000


@pytest.mark.slow
def test_a_hundred_thousand_labels_through_kills(
    tmp_path: Path, database: str, redis_url: str
) -> None:
    labels = through_kills(tmp_path, database, redis_url, messages=5_400, kills=4, rate=100.0)
    assert labels > 100_000


def test_until_caught_up_waits_for_what_labelers_have_sent(
    tmp_path: Path, database: str, redis_url: str
) -> None:
    world = World(2)
    world.fill(30, seed=11)
    with labelled(
        world,
        tmp_path / "up.log",
        database,
        redis_url,
        # For longer than the silence after which all is taken to be there.
        rate=6.0,
        arguments=("--until-caught-up",),
    ) as (run, _):
        assert run.wait(60) == 0
    rows, _ = run_async(look(database))
    assert rows == world.expected


@pytest.mark.slow
def test_a_freshly_stopped_deployment_goes_on_where_it_was(
    tmp_path: Path, database: str, redis_url: str
) -> None:
    world = World(1)
    world.fill(20, seed=9)
    with labelled(world, tmp_path / "up.log", database, redis_url) as (run, server):
        assert until_held(run, world, database) == world.expected
        run.stop()
        (feed,) = server.labelers.values()
        world.say(world.label("did:plc:later"), server=server)
        run.start()
        assert until_held(run, world, database) == world.expected
        assert feed.cursors == [0, 20]
