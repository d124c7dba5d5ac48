"""`headrace actor`: what is known of an account, as lines for grep and as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest

from engine import cli
from engine.adapters import postgres
from engine.core import codec
from engine.ops import actor_report
from engine.settings import Settings

pytestmark = pytest.mark.services

DID, BARE = "did:plc:aliceaaaaaaaaaaaaaaaaaaa", "did:plc:bobaaaaaaaaaaaaaaaaaaaaa"
ROWS = """
INSERT INTO actor (did, handle, "indexedAt", "upstreamStatus")
    VALUES ('{did}', 'alice.test', '2026-01-01T00:00:01.000Z', 'deactivated');
INSERT INTO actor_sync (did, "commitCid", "repoRev")
    VALUES ('{did}', 'bafycommit', '3kaaaaaaaaa22');
INSERT INTO headrace.identity_due (did, seq, time, forced, attempts, last_error)
    VALUES ('{did}', 7, '2026-01-02T00:00:00Z', true, 2, E'handle alice.test:\\n  HTTP 503');
INSERT INTO headrace.seat (handle, did, seq) VALUES ('alice.test', '{did}', 5);
INSERT INTO headrace.plc (did, created_at, handle, key, pds)
    VALUES ('{did}', '2025-01-01', 'alice.test', 'did:key:z', 'https://pds.test');
INSERT INTO headrace.status_due (did, time) VALUES ('{did}', '2026-01-01T00:00:01Z');
INSERT INTO headrace.deletion (did, shard, relay, generation, seq, time, last_error)
    VALUES ('{did}', 3, 'relay.test', 1, 9, '2026-01-03T00:00:00Z', 'HTTP 502');
INSERT INTO headrace.repo (did, rev, host, active, status, outcome, outcome_error)
    VALUES ('{did}', '3kaaaaaaaaa22', 'https://pds.test', false, 'deactivated', 'transient', 'x');
INSERT INTO headrace.dead_letter (source, shard, relay, generation, seq, did, path, reason, error)
    VALUES ('firehose_live', 3, 'relay.test', 1, 4, '{did}', 'a.b.c/1', 'bad_cbor', 'x');
INSERT INTO headrace.repo (did) VALUES ('{bare}');
"""


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    made = await postgres.connect(Settings(database_url=database), "test")
    await made.execute(ROWS.format(did=DID, bare=BARE))
    yield made
    await made.close()


async def test_every_table_that_knows_something_has_its_lines(
    conn: asyncpg.Connection[Any],
) -> None:
    found = await actor_report.report(conn, "headrace", "alice.test")
    lines = actor_report.render_text(found).splitlines()
    shard = codec.shard_of(DID, await conn.fetchval("SELECT shard_count FROM headrace.deployment"))
    assert {
        f"did {DID}",
        "actor.handle alice.test",
        "actor.indexed_at 2026-01-01T00:00:01.000Z",
        "actor.upstream_status deactivated",
        "actor_sync.rev 3kaaaaaaaaa22",
        "identity_due.attempts 2",
        "identity_due.forced true",
        "identity_due.last_error handle alice.test: HTTP 503",
        "seat.seq 5",
        "document.pds https://pds.test",
        "status_due.attempts 0",
        "deletion.relay relay.test",
        "deletion.last_error HTTP 502",
        "repo.host https://pds.test",
        "repo.outcome transient",
        "repo.active false",
        f"shard.number {shard}",
    } <= set(lines)
    assert sum(line.startswith("dead_letter source=firehose_live") for line in lines) == 1
    assert all(" " in line for line in lines)
    assert set(actor_report.SECTIONS) <= {line.split(".")[0] for line in lines}


async def test_what_is_not_known_is_said(conn: asyncpg.Connection[Any]) -> None:
    found = await actor_report.report(conn, "headrace", BARE)
    lines = actor_report.render_text(found).splitlines()
    assert {"actor none", "identity_due none", "deletion none", "dead_letter none"} <= set(lines)
    assert [line for line in lines if line.startswith("repo.first_seen_at ")]


@pytest.mark.parametrize(
    ("who", "name"),
    [
        (DID, DID),
        (f"at://{DID}/app.bsky.feed.post/1", DID),
        ("@Alice.Test", "alice.test"),
        (" at://alice.test ", "alice.test"),
    ],
)
def test_who_may_be_written_as_people_do(who: str, name: str) -> None:
    assert actor_report.named(who) == name


@pytest.mark.parametrize(
    "who", ["", "alice", "did:", "did:plc:a b", "ålice.test", "a..b", "x" * 999]
)
def test_what_is_nobody_is_refused(who: str) -> None:
    with pytest.raises(actor_report.UnknownActor, match="neither a DID nor a handle"):
        actor_report.named(who)


@pytest.mark.parametrize(
    ("who", "words"),
    [("nobody.test", "no actor here has the handle"), ("did:plc:nobody", "nothing is known of")],
)
async def test_of_whom_nothing_is_known_is_told_apart(
    conn: asyncpg.Connection[Any], who: str, words: str
) -> None:
    with pytest.raises(actor_report.UnknownActor, match=words):
        await actor_report.report(conn, "headrace", who)


def test_the_command_prints_json_and_ends_with_one_for_nobody(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    assert cli.main(["actor", "nobody.test"]) == 1
    assert "no actor here has the handle nobody.test" in capsys.readouterr().err

    async def insert() -> None:
        made = await asyncpg.connect(database)
        await made.execute("INSERT INTO headrace.repo (did, rev) VALUES ($1, 'r')", DID)
        await made.close()

    asyncio.run(insert())
    assert cli.main(["actor", DID, "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["did"], found["repo"]["rev"], found["actor"]) == (DID, "r", None)
