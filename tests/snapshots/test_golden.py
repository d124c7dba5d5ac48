"""Recorded repositories fetched: alone, and together with the log that made them."""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.adapters import postgres
from engine.core import codec, streams
from engine.settings import Settings
from tests.exact.seeds import SEEDS
from tests.native import frames
from tests.scenarios.run import RELAY, SHARDS
from tests.snapshots.harness import Log, Owner, append, drain, empty_logs

pytestmark = [pytest.mark.services, pytest.mark.golden]

csv.field_size_limit(sys.maxsize)

OF_TIME = {"indexedAt", "sortAt", "sortedAt", "rev"}
"""Columns that no repository tells: when something was first seen, or seen last."""

OF_ORDER = {"violatesThreadGate", "invalidReplyRoot", "violatesEmbeddingRules"} | {
    "hasThreadGate", "hasPostGate"
}  # fmt: skip
"""Verdicts on a record that others' records before it decide; `tests/exact` is about those."""

TABLES = (
    "record", "post", "like", "repost", "follow", "profile", "list", "list_item", "list_block",
    "actor_block", "feed_generator", "starter_pack", "labeler", "thread_gate", "post_gate",
    "verification", "post_embed_image", "post_embed_external", "post_embed_video",
)  # fmt: skip
"""What one repository alone decides."""


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


async def ask(conn: Any, did: str) -> int:
    """Begin to wait for a snapshot."""
    fetch_id: int = await conn.fetchval(
        "INSERT INTO headrace.repo AS held (did, fetch_id) VALUES ($1, nextval('headrace.fetch'))"
        " ON CONFLICT (did) DO UPDATE SET fetch_id = nextval('headrace.fetch'),"
        " fetch_rev = held.rev RETURNING fetch_id",
        did,
    )
    return fetch_id


async def differences(conn: Any, recorded: Path, dids: set[str]) -> Counter[str]:
    """Rows of these repositories that differ from those that the log makes, by table."""
    found: Counter[str] = Counter()
    for table in TABLES:
        path = recorded / "tables" / f"{table}.csv"
        if not path.exists():
            continue
        with path.open(newline="") as file:
            expected = list(csv.DictReader(file))
        names = [name for name in expected[0] if name not in OF_TIME | OF_ORDER]
        if table == "profile":
            names.remove("createdAt")  # the clock's, where the record has no date
        key = "postUri" if "postUri" in names and "uri" not in names else "uri"
        listed = ", ".join(f'"{name}"::text' for name in names)
        rows = await conn.fetch(f'SELECT {listed} FROM "{table}"')
        ours = Counter(tuple(value or "" for value in row) for row in rows)
        at = names.index(key)
        theirs = Counter(
            tuple(row[name] for name in names) for row in expected if row[key].split("/")[2] in dids
        )
        ours = Counter({row: n for row, n in ours.items() if row[at].split("/")[2] in dids})
        wrong = (ours - theirs) + (theirs - ours)
        if wrong:
            found[table] = wrong.total()
        found["rows"] += theirs.total()
    return found


async def test_backfill_alone_makes_what_the_repositories_hold(
    recorded: Path, database: str
) -> None:
    rng = random.Random(1)
    conn = await postgres.connect(Settings(database_url=database), "test/control")
    await conn.execute("UPDATE headrace.deployment SET epoch = 'e'")
    logs = empty_logs()
    dids = set()
    for export in exports(recorded):
        dids.add(export.did)
        for entry in snapshot(export, await ask(conn, export.did), rng):
            append(logs, streams.BACKFILL, export.did, entry)
    owner = await Owner.begin(database, logs, rng)
    try:
        await drain(owner)
        found = await differences(conn, recorded, dids)
        assert found.pop("rows") > 5_000
        assert found == {}
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
    dids = {export.did for export in waiting}
    rng.shuffle(waiting)
    unsent: list[tuple[str, list[bytes]]] = []
    owner = await Owner.begin(database, logs, rng)
    killed = 0
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
            if rng.random() < 0.02:
                killed += 1
                await owner.end(killed=True)
                owner = await Owner.begin(database, logs, rng)
            await owner.step(rng.choice(list(logs)), rng.choice((2, 10, 100)))
        await owner.settle()
        found = await differences(conn, recorded, dids)
        assert found.pop("rows") > 5_000
        assert found == {}
        assert await conn.fetchval("SELECT count(*) FROM headrace.touched") == 0
    finally:
        await owner.end(killed=False)
        await conn.close()
