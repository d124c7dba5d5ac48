"""Whatever the order in which live commits and slices come, each repository ends as it is."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import libipld
import pytest

from engine.adapters import postgres
from engine.core import streams
from engine.settings import Settings
from tests.collections.commits import cid_of, cid_text, tid
from tests.snapshots.harness import Owner, append, empty_logs
from tests.snapshots.repos import Repo, slices

pytestmark = pytest.mark.services

DIDS = [f"did:plc:{name}" for name in "abcde"]
COMMITS = 120
SEEDS = [pytest.param(seed, marks=() if seed < 2 else pytest.mark.slow) for seed in range(40)]

TABLES = {
    "app.bsky.feed.post": "post",
    "app.bsky.feed.like": '"like"',
    "app.bsky.graph.follow": "follow",
}


class Network:
    """Repositories, what of them was sent, and the fetches on their way."""

    def __init__(self, rng: random.Random, conn: Any) -> None:
        self.rng, self.conn = rng, conn
        self.repos = {did: Repo(did, rng, [d for d in DIDS if d != did]) for did in DIDS}
        self.logs = empty_logs()
        self.happened: Counter[str] = Counter()
        self.order: list[tuple[str, bytes]] = []
        for seq in range(1, COMMITS + 1):
            repo = self.repos[rng.choice(DIDS)]
            repo.change(seq * 50, seq * 10)
            self.order.append((repo.did, repo.entries[-1]))
        self.unsent: list[tuple[str, list[bytes]]] = []
        """Slices that were fetched and are still to be appended."""

    def send(self, count: int, lost: float) -> None:
        """The next commits come over the live stream, or never."""
        for did, entry in self.order[:count]:
            if self.rng.random() < lost:
                self.happened["lost"] += 1
            else:
                append(self.logs, streams.LIVE, did, entry)
        del self.order[:count]

    async def fetch(self, did: str, *, latest: bool = False) -> None:
        """Ask for a snapshot and get one that is not older than what was applied by then."""
        row = await self.conn.fetchrow(
            "INSERT INTO headrace.repo AS held (did, fetch_id) VALUES ($1, 0)"
            " ON CONFLICT (did) DO UPDATE SET fetch_id = nextval('headrace.fetch'),"
            " fetch_rev = held.rev RETURNING fetch_id, fetch_rev",
            did,
        )
        repo = self.repos[did]
        fits = [n for n, rev in enumerate(repo.revs) if rev >= (row["fetch_rev"] or "")]
        if not fits:
            return
        at = fits[-1] if latest else self.rng.choice(fits)
        entries = slices(did, row["fetch_id"], repo.revs[at], repo.states[at], self.rng)
        self.happened["slices"] += len(entries) - 1
        if not latest and self.rng.random() < 0.1:
            entries = entries[: self.rng.randrange(len(entries))]  # and then it dies
            self.happened["abandoned"] += 1
        if self.rng.random() < 0.2:
            entries = [each for each in entries for _ in range(2)]  # appended twice
        self.unsent.append((did, entries))

    def append_slices(self) -> None:
        """Some of what was fetched, the entries of each fetch in order."""
        for did, entries in list(self.unsent):
            for _ in range(self.rng.randint(0, len(entries))):
                append(self.logs, streams.BACKFILL, did, entries.pop(0))
            if not entries:
                self.unsent.remove((did, entries))


async def rows_of(conn: Any) -> dict[str, Any]:
    """Records by uri, and the uris of every table that has rows of its own."""
    found: dict[str, Any] = {}
    records = await conn.fetch("SELECT uri, cid FROM record")
    found["record"] = {row["uri"]: row["cid"] for row in records}
    for nsid, table in TABLES.items():
        rows = await conn.fetch(f"SELECT uri, cid FROM {table}")
        found[nsid] = {row["uri"]: row["cid"] for row in rows}
    return found


def expected(repos: dict[str, Repo]) -> dict[str, Any]:
    records = {
        f"at://{did}/{path}": cid_text(cid_of(block))
        for did, repo in repos.items()
        if repo.states
        for path, block in repo.states[-1].items()
    }
    of = {nsid: {uri: cid for uri, cid in records.items() if f"/{nsid}/" in uri} for nsid in TABLES}
    return {"record": records, **of}


async def assert_counts_add_up(conn: Any) -> None:
    """Numbers that are kept by differences are those of the rows."""
    for held, counted in (
        ('SELECT uri, "likeCount" FROM post_agg WHERE "likeCount" <> 0',
         'SELECT subject, count(*) FROM "like" GROUP BY 1'),
        ('SELECT did, "followersCount" FROM profile_agg WHERE "followersCount" <> 0',
         'SELECT "subjectDid", count(*) FROM follow GROUP BY 1'),
        ('SELECT did, "followsCount" FROM profile_agg WHERE "followsCount" <> 0',
         "SELECT creator, count(*) FROM follow GROUP BY 1"),
        ('SELECT did, "postsCount" FROM profile_agg WHERE "postsCount" <> 0',
         "SELECT creator, count(*) FROM post GROUP BY 1"),
        ('SELECT uri, 1 FROM feed_item', "SELECT uri, 1 FROM post"),
    ):  # fmt: skip
        kept = sorted(tuple(row) for row in await conn.fetch(held))
        assert kept == sorted(tuple(row) for row in await conn.fetch(counted)), held
    repeated = await conn.fetchval(
        'SELECT count(*) FROM (SELECT 1 FROM notification GROUP BY did, "recordUri", reason'
        " HAVING count(*) > 1) AS again"
    )
    assert repeated == 0


@pytest.mark.parametrize("lost", [0.0, 0.05])
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_repository_ends_as_it_is_at_its_last_rev(
    database: str, seed: int, lost: float
) -> None:
    rng = random.Random(f"{seed} {lost}")
    conn = await postgres.connect(Settings(database_url=database), "test/control")
    await conn.execute("UPDATE headrace.deployment SET epoch = 'e'")
    network = Network(rng, conn)
    owner = await Owner.begin(database, network.logs, rng)
    try:
        while network.order or network.unsent or any(map(owner.waiting, network.logs)):
            match rng.randrange(10):
                case 0 | 1:
                    network.send(rng.randint(1, 12), lost)
                case 2 if network.order:
                    await network.fetch(rng.choice(DIDS))
                case 3 | 4:
                    network.append_slices()
                case 5 if rng.random() < 0.2:
                    network.happened["killed"] += 1
                    network.happened["prepared"] += owner.prepared
                    await owner.end(killed=True)
                    owner = await Owner.begin(database, network.logs, rng)
                case _:
                    source = rng.choice(list(network.logs))
                    await owner.step(source, rng.choice((1, 2, 5, 40)))
        await owner.settle()
        # What is still unfinished is fetched again, as the sweeper does.
        for _ in range(2):
            asked = await conn.fetch(
                "SELECT did FROM headrace.repo WHERE resync IS NOT NULL OR fetch_id IS NOT NULL"
            )
            never = [did for did, repo in network.repos.items() if repo.revs and lost]
            for did in {row["did"] for row in asked} | set(never):
                await network.fetch(did, latest=True)
            while network.unsent or owner.waiting(streams.BACKFILL):
                network.append_slices()
                await owner.step(streams.BACKFILL, 5)
            await owner.settle()
        found, wanted = await rows_of(conn), expected(network.repos)
        for name, rows in found.items():
            missing = sorted(wanted[name].items() - rows.items())
            left = sorted(rows.items() - wanted[name].items())
            if missing or left:
                pytest.fail(f"{name}: missing {missing}, left over {left}")
        await assert_counts_add_up(conn)
        assert await conn.fetchval("SELECT count(*) FROM headrace.touched") == 0
        assert await conn.fetchval("SELECT count(*) FROM headrace.stale") == 0
        state = await conn.fetch("SELECT did, rev, fetch_id, resync FROM headrace.repo")
        last = {did: repo.revs[-1] for did, repo in network.repos.items() if repo.revs}
        assert {row["did"]: row["rev"] for row in state if row["rev"]} == last
        assert network.happened["slices"] > 0
        assert network.happened["prepared"] + owner.prepared > 3
    finally:
        await owner.end(killed=False)
        await conn.close()


def test_the_tids_used_are_in_order() -> None:
    assert tid(1) < tid(2) < tid(5000)
    assert libipld.decode_dag_cbor(b"\xa0") == {}
