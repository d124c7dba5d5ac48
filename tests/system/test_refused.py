"""Rows that only Postgres refuses cost themselves, wherever and however many they are.

Over-long subjects: valid records, but no index takes more than 2704 bytes a key.
"""

from __future__ import annotations

import itertools
import random
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from engine import simulate
from engine.simulate.keys import K256, Key
from engine.simulate.repository import Repository, Write, cid_of, encode, tid
from tests.collections.commits import cid_text
from tests.system import accounts
from tests.system.deployment import Deployment, Process

pytestmark = [pytest.mark.services, pytest.mark.timeout(90)]

TIME = "2026-01-01T00:00:00.000Z"
START = 1_767_225_600_000_000
KEY = Key(K256, bytes(31) + b"\1")
"""That time in microseconds."""


@dataclass
class Log:
    """Frames of a few repositories, and what must become of them."""

    seed: int
    frames: list[bytes] = field(default_factory=list)
    good: dict[str, str] = field(default_factory=dict)  # uri -> subject of likes indexed at last
    bad: set[tuple[str, bytes]] = field(default_factory=set)  # uri and record: refused
    replaced: set[tuple[str, bytes]] = field(default_factory=set)  # refused, if it came so far
    ops: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.repos = [Repository(f"did:plc:{n:a>24}", KEY) for n in ("b", "c", "d", "e", "f", "g")]
        self._numbers = itertools.count(1)

    def subject(self, *, bad: bool) -> str:
        length = 5000 if bad else 20
        fragment = "".join(self.dice.choices(string.ascii_letters + string.digits, k=length))
        return f"at://did:plc:{'z' * 24}/app.bsky.feed.post/3jzfcijpj2z2a#/{fragment}"

    def like(self, repo: Repository, *, bad: bool, rkey: str | None = None) -> Write:
        path = f"app.bsky.feed.like/{rkey or tid(START + next(self._numbers))}"
        to = self.subject(bad=bad)
        subject = {"uri": to, "cid": cid_text(cid_of(b"post"))}
        record = encode({"$type": "app.bsky.feed.like", "subject": subject, "createdAt": TIME})
        uri = f"at://{repo.did}/{path}"
        older = {version for version in self.bad if version[0] == uri}
        self.replaced |= older
        self.bad -= older
        if bad:
            self.bad.add((uri, record))
        else:
            self.good[uri] = to
        return Write(path, record)

    def commit(self, repo: Repository, writes: list[Write]) -> None:
        self.ops += len(writes)
        seq = len(self.frames) + 1
        draft = repo.commit(writes, tid(START + next(self._numbers)), seq, TIME)
        self.frames.append(draft.frame())

    def likes(self, count: int, share_bad: float) -> None:
        """Commits of one like each, over all repositories."""
        for _ in range(count):
            repo = self.dice.choice(self.repos)
            self.commit(repo, [self.like(repo, bad=self.dice.random() < share_bad)])


def one_alone(log: Log) -> None:
    log.commit(log.repos[0], [log.like(log.repos[0], bad=True)])


def one_among_others(log: Log) -> None:
    log.likes(150, 0)
    repo = log.repos[1]
    log.commit(repo, [log.like(repo, bad=bad) for bad in (False, True, False)])
    log.likes(150, 0)


def many_in_one_batch(log: Log) -> None:
    log.likes(400, 0.2)


def a_whole_commit(log: Log) -> None:
    log.likes(20, 0)
    repo = log.repos[2]
    log.commit(repo, [log.like(repo, bad=True) for _ in range(60)])
    log.likes(20, 0)


def versions(log: Log) -> None:
    """An op that was refused counts as if it had not been, for what comes before and after."""
    for number, repo in enumerate(log.repos):
        rkey = tid(START + number)
        first = number == 3
        log.commit(repo, [log.like(repo, bad=not first, rkey=rkey)])
        if number == 0:  # an update of what is not there
            log.commit(repo, [log.like(repo, bad=False, rkey=rkey)])
        elif number == 1:  # deleted and made again
            log.commit(repo, [Write(f"app.bsky.feed.like/{rkey}", None)])
            log.commit(repo, [log.like(repo, bad=False, rkey=rkey)])
        else:  # refused again; where the first version was good, that one stays
            log.commit(repo, [log.like(repo, bad=True, rkey=rkey)])


@pytest.mark.parametrize(
    ("fill", "refused"),
    [
        pytest.param(one_alone, 1, marks=pytest.mark.slow),
        pytest.param(one_among_others, 1, marks=pytest.mark.slow),
        (many_in_one_batch, 50),
        pytest.param(a_whole_commit, 60, marks=pytest.mark.slow),
        (versions, 4),
    ],
)
async def test_refused_rows_cost_themselves(
    database: str, redis_url: str, tmp_path: Path, fill: Callable[[Log], None], refused: int
) -> None:
    log = Log(seed=3)
    fill(log)
    network = simulate.Network(frames=simulate.MemoryFrames(log.frames))
    with simulate.serve_in_thread(network) as relay:
        environ = {**relay.settings, "DATABASE_URL": database, "REDIS_URL": redis_url}
        first = Process(("run", "firehose"), environ, tmp_path / "firehose.log")
        with first:  # all of it waits, so that it comes in one batch
            first.until("all frames", lambda: sum(accounts.received(redis_url).values()) == log.ops)
        up = Deployment(
            relay.settings,
            database,
            redis_url,
            log=tmp_path / "up.log",
            arguments=["--until-caught-up"],
        )
        with up:
            assert up.wait(60) == 0, up.tail()
    assert "starting it again" not in up.tail(100_000)
    assert len(log.bad) >= refused
    await is_indexed(log, database)
    await accounts.add_up(database, redis_url, at_least=log.ops)


async def is_indexed(log: Log, database: str) -> None:
    conn = await asyncpg.connect(database)
    try:
        likes = await conn.fetch('SELECT uri, subject FROM "like"')
        records = await conn.fetch("SELECT uri FROM record")
        letters = await conn.fetch("SELECT did, path, reason, error, raw FROM headrace.dead_letter")
    finally:
        await conn.close()
    assert {row["uri"]: row["subject"] for row in likes} == log.good
    assert {row["uri"] for row in records} == log.good.keys()
    assert {letter["reason"] for letter in letters} == {"refused_by_database"}
    assert all("index row size" in letter["error"] for letter in letters)
    found = {(f"at://{letter['did']}/{letter['path']}", letter["raw"]) for letter in letters}
    assert len(found) == len(letters)
    assert log.bad <= found <= log.bad | log.replaced
