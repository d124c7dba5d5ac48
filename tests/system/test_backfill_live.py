"""Backfill and the live log together, everything real: lister, backfiller, relay, indexers.

What a seed decides: which part of the log is there at the start, when the relay goes on and by how
much, when hosts answer how many fetches, the sizes of batches, the number of indexers, where one
process ends itself, and which others are killed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web

from engine import failpoints, simulate
from engine.simulate.server import Server
from tests.snapshots.judge import Judge, judge_of
from tests.system import golden
from tests.system.deployment import Deployment, deployed, past, settle

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(240)]

SEEDS = [pytest.param(seed, marks=() if seed == 0 else pytest.mark.slow) for seed in range(20)]
ROLES = "firehose,lister,backfiller,indexer,identity"

PASSES = {"inside_copy": 12, "between_statements": 12, "before_trim": 1, "after_trim": 1}
"""At which pass a process ends at the latest; else 4. All are reached before half is done."""
ENDS = [
    (role, point)
    for role in ("indexer", "backfiller")
    for point in failpoints.POINTS[role]
    if point != "inside_deletion"  # no account with rows goes here
]


@dataclass
class Hosts:
    """All of them: they answer so many fetches and let the others wait."""

    allowed: int = 0
    answered: int = 0

    def are_done(self, most: int) -> Callable[[], bool]:
        """Whether they have answered what they may by now, at most so many."""
        target = min(self.allowed, most)
        return lambda: self.answered >= target

    async def give(self, request: web.Request, export: bytes) -> web.StreamResponse:
        while self.answered >= self.allowed:
            await asyncio.sleep(0.01)
        self.answered += 1
        return web.Response(body=export, content_type="application/vnd.ipld.car")


def environment(rng: random.Random) -> dict[str, str]:
    role, point = rng.choice(ENDS)
    passes = rng.randint(1, PASSES.get(point, 4))
    return {
        "ROLES": ROLES,
        "INGESTER_BATCH_SIZE": str(rng.choice((8, 32, 128))),
        "INDEXER_BATCH_SIZE": str(rng.choice((16, 64))),
        "INDEXER_BACKFILL_SHARE": str(rng.choice((0.05, 0.2, 0.5))),
        "INDEXER_RETENTION_SECONDS": "0",
        "BACKFILLER_CONCURRENCY": str(rng.choice((1, 4, 20))),
        failpoints.VARIABLE: f"{role}:{point}:{passes}:kill",
    }


def play(
    run: Deployment, relay: Server, hosts: Hosts, rest: Sequence[bytes], rng: random.Random
) -> None:
    """Let the relay and the hosts go on by turns, in steps that are waited for or not."""
    left = list(rest)
    kills = [rng.choice(("indexer", "indexer", "backfiller", "firehose")) for _ in range(2)]
    repositories = sum(relay.network.export(str(repo["did"])) is not None
                       for repo in relay.network.repos)  # fmt: skip
    while left or hosts.allowed < repositories:
        if left and rng.random() < 0.5:
            size = rng.randint(1, 200)
            for frame in left[:size]:
                relay.publish(frame)
            del left[:size]
            if rng.random() < 0.5:
                run.wait_for("the relay is read", past(relay.network.frames.last_seq))
        else:
            hosts.allowed += rng.randint(1, 6)
            if rng.random() < 0.5:
                run.until("hosts have answered", hosts.are_done(repositories))
        if kills and rng.random() < 0.15:
            run.kill(kills.pop())
    for role in kills:
        run.kill(role)
    hosts.allowed = 1_000_000  # whatever is asked for again


async def fetched(conn: asyncpg.Connection[asyncpg.Record], judge: Judge) -> None:
    """Wait until every repository that can be had is fetched and indexed."""
    query = (
        "SELECT did, outcome, fetch_id, resync, attempts, next_attempt_at FROM headrace.repo"
        " WHERE did = ANY($1) AND"
        " (outcome IS DISTINCT FROM 'ok' OR backfilled_rev IS NULL OR queued_at IS NOT NULL"
        " OR fetch_id IS NOT NULL OR resync IS NOT NULL)"
    )
    deadline = time.monotonic() + 90
    while left := await conn.fetch(query, list(judge.dids)):
        shown = "\n".join(map(str, left[:5]))
        assert time.monotonic() < deadline, f"{len(left)} repositories not indexed:\n{shown}"
        await asyncio.sleep(0.1)


async def nothing_noted(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until what is noted for fetches is gone, also of those whose repository nobody has."""
    deadline = time.monotonic() + 60
    for table in ("touched", "stale"):
        query = f"SELECT * FROM headrace.{table} JOIN headrace.repo USING (did) LIMIT 5"
        while left := await conn.fetch(query):
            assert time.monotonic() < deadline, f"{table}: {left}"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_the_interleaving_and_who_is_killed_the_rows_are_the_same(
    shared: Path, tmp_path: Path, database: str, redis_url: str, seed: int
) -> None:
    rng = random.Random(seed)
    recorded = shared / ("golden" if seed % 4 == 3 else "golden-gates")
    network = simulate.load(recorded)
    frames = [network.frames[place] for place in range(len(network.frames))]
    start = rng.randrange(len(frames) // 2)
    begun = replace(network, frames=simulate.MemoryFrames(frames[:start]))
    hosts, judge, extra = Hosts(), judge_of(recorded), environment(rng)
    point = extra[failpoints.VARIABLE].split(":")[1]
    log = tmp_path / "up.log"
    with deployed(
        begun, log, database, redis_url, indexers=rng.randint(1, 3), extra=extra
    ) as (run, relay):  # fmt: skip
        relay.misdeeds["*"] = hosts.give
        await asyncio.to_thread(play, run, relay, hosts, frames[start:], rng)
        await asyncio.to_thread(run.until_says, f"failpoint {point} reached")
        conn = await asyncpg.connect(database)
        try:
            await fetched(conn, judge)
            await asyncio.to_thread(settle, run, network.frames.last_seq)
            await nothing_noted(conn)
        finally:
            await conn.close()
        found = judge.judge(await golden.rows(database))
    said = run.log.read_text()
    assert f'exit=SIGKILL said="failpoint {point} reached"' in said
    assert len(run.killed) == 2
    print(recorded.name, seed, extra, f"{found.bound} bound; differ", dict(found.free))
    assert found.wrong == [], str(found)
    assert found.bound > 9_000
