"""Recorded repositories fetched: alone, and together with the log that made them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.adapters import postgres
from engine.core import codec, streams
from engine.settings import Settings
from tests.exact.seeds import SEEDS
from tests.model import exported, history
from tests.native import frames
from tests.scenarios.run import RELAY, SHARDS
from tests.snapshots.harness import Log, Owner, append, drain, empty_logs
from tests.snapshots.judge import judge_of
from tests.system import golden

pytestmark = [pytest.mark.services, pytest.mark.golden]

KILLS = 12
"""Ends of an owner in each interleaving, most of them while a batch is being written."""


@pytest.fixture(params=["golden", "golden-gates"])
def recorded(request: pytest.FixtureRequest, shared: Path) -> Path:
    return shared / str(request.param)


def exports(recorded: Path) -> Iterator[codec.Export]:
    for path in sorted((recorded / "cars").glob("*.car")):
        export = codec.read_repo(path.read_bytes())
        assert isinstance(export, codec.Export)
        yield export


def snapshot(export: codec.Export, fetch_id: int, rng: random.Random) -> list[bytes]:
    """The entries of one fetch, in slices of any size."""
    slices = export.slices(
        fetch_id=fetch_id,
        notify=True,
        collections=[],
        max_bytes=rng.choice((2_000, 20_000, 1 << 20)),
        max_records=rng.choice((1, 7, 1_000)),
    )
    return [*(entry for _, entry in slices), export.closing(fetch_id=fetch_id)]


def live_log(recorded: Path) -> Log:
    log = frames.recorded(recorded.parent, recorded.name)
    read = codec.decode_frames(log, relay=RELAY, generation=1, shards=SHARDS, allow=frames.ALLOW)
    logs = empty_logs()[streams.LIVE]
    for shard, entry in read.entries():
        logs[shard].append(entry)
    return logs


def size_of(log: Log) -> int:
    return sum(map(len, log.values()))


async def ask(conn: Any, did: str) -> int:
    """Begin to wait for a snapshot."""
    fetch_id: int = await conn.fetchval(
        "INSERT INTO headrace.repo AS held (did, fetch_id) VALUES ($1, nextval('headrace.fetch'))"
        " ON CONFLICT (did) DO UPDATE SET fetch_id = nextval('headrace.fetch'),"
        " fetch_rev = held.rev RETURNING fetch_id",
        did,
    )
    return fetch_id


async def test_backfill_alone_makes_what_the_repositories_hold(
    recorded: Path, database: str
) -> None:
    rng = random.Random(1)
    conn = await postgres.connect(Settings(database_url=database), "test/control")
    await conn.execute("UPDATE headrace.deployment SET epoch = 'e'")
    logs = empty_logs()
    for export in exports(recorded):
        for entry in snapshot(export, await ask(conn, export.did), rng):
            append(logs, streams.BACKFILL, export.did, entry)
    owner = await Owner.begin(database, logs, rng)
    try:
        await drain(owner)
        await owner.look_up(judge_of(recorded).network)
        repositories = exported.exports(recorded)
        network, records = judge_of(recorded).network, exported.events_of(repositories)
        found = history.compare(
            history.History(network.events, records),
            exported.Dates(repositories),
            network.rows,
            await golden.rows(database),
        )
        assert found.unexplained == []
        assert found.bound.total() > 10_000
        open_fetches = "SELECT count(*) FROM headrace.repo WHERE fetch_id IS NOT NULL"
        assert await conn.fetchval(open_fetches) == 0
    finally:
        await owner.end(killed=False)
        await conn.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_backfill_and_the_log_together_make_the_same_repositories(
    recorded: Path, database: str, seed: int
) -> None:
    rng = random.Random(seed)
    conn = await postgres.connect(Settings(database_url=database), "test/control")
    await conn.execute("UPDATE headrace.deployment SET epoch = 'e'")
    whole = live_log(recorded)
    logs = empty_logs()
    waiting = list(exports(recorded))
    rng.shuffle(waiting)
    unsent: list[tuple[str, list[bytes]]] = []
    owner = await Owner.begin(database, logs, rng)
    lost = 0
    kills = sorted((rng.randrange(1, size_of(whole)) for _ in range(KILLS)), reverse=True)
    try:
        while waiting or unsent or any(whole.values()) or any(map(owner.waiting, logs)):
            if rng.random() < 0.3:
                shard = rng.choice(list(whole))
                count = rng.randint(1, 40)
                logs[streams.LIVE][shard] += whole[shard][:count]
                del whole[shard][:count]
            if waiting and rng.random() < 0.15:
                export = waiting.pop()
                unsent.append((export.did, snapshot(export, await ask(conn, export.did), rng)))
            for did, entries in list(unsent):
                for _ in range(rng.randint(0, min(20, len(entries)))):
                    append(logs, streams.BACKFILL, did, entries.pop(0))
                if not entries:
                    unsent.remove((did, entries))
            if kills and size_of(whole) <= kills[0]:
                kills.pop(0)
                lost += await owner.end(killed=True)
                owner = await Owner.begin(database, logs, rng)
            await owner.step(rng.choice(list(logs)), rng.choice((2, 10, 100)))
        await owner.settle()
        assert kills == []
        assert lost > 0  # a batch was being written and is not
        judge = judge_of(recorded)
        await owner.look_up(judge.network)
        found = judge.judge(await golden.rows(database))
        print(recorded.name, seed, f"{lost} lost, {found.bound} bound; differ", dict(found.free))
        assert found.wrong == [], str(found)
        assert found.bound > 9_000
        assert await conn.fetchval("SELECT count(*) FROM headrace.touched") == 0
        assert await conn.fetchval("SELECT count(*) FROM headrace.stale") == 0
    finally:
        await owner.end(killed=False)
        await conn.close()
