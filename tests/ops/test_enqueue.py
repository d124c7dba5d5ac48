"""``headrace enqueue``: asked for in the table, whatever was there before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine import cli
from engine.errors import SettingsError
from engine.ops import enqueue
from engine.ops.enqueue import Asked
from engine.settings import Settings
from tests.fix_lists import did

HOST = "https://pds.example"


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    made = await asyncpg.connect(database, server_settings={"search_path": "headrace"})
    yield made
    await made.close()


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(database_url=database)


async def wanted(conn: asyncpg.Connection[Any]) -> list[str]:
    rows = await conn.fetch("SELECT did FROM repo WHERE wanted = 'enqueued' ORDER BY did")
    return [row["did"] for row in rows]


async def test_dids_known_and_unknown(conn: asyncpg.Connection[Any], settings: Settings) -> None:
    await conn.execute(
        "INSERT INTO repo (did, outcome, attempts, next_attempt_at, backfilled_rev)"
        " VALUES ($1, 'poison', 3, now() + interval '1 day', NULL), ($2, 'ok', 0, NULL, '3a')",
        did(1),
        did(2),
    )
    assert await enqueue.enqueue(settings, Asked([did(1), did(2), did(3)])) == 3
    assert await wanted(conn) == [did(1), did(2), did(3)]
    rows = await conn.fetch("SELECT outcome, attempts, next_attempt_at FROM repo ORDER BY did")
    assert [tuple(row) for row in rows] == [(None, 0, None), ("ok", 0, None), (None, 0, None)]
    assert await enqueue.enqueue(settings, Asked([did(1)])) == 1
    assert len(await wanted(conn)) == 3


async def test_fetch_under_way_is_left_alone(
    conn: asyncpg.Connection[Any], settings: Settings
) -> None:
    await conn.execute("INSERT INTO repo (did, fetch_id, queued_at) VALUES ($1, 7, now())", did(1))
    await enqueue.enqueue(settings, Asked([did(1)]))
    row = await conn.fetchrow("SELECT wanted, fetch_id, queued_at FROM repo")
    assert row is not None
    assert (row["wanted"], row["fetch_id"]) == ("enqueued", 7)
    assert row["queued_at"] is not None


async def test_all_of_a_host_which_is_listed_again(
    conn: asyncpg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "CHUNK", 3)
    await conn.executemany(
        "INSERT INTO repo (did, host) VALUES ($1, $2)",
        [(did(number), HOST if number < 10 else "https://other") for number in range(12)],
    )
    await conn.execute(
        "INSERT INTO host (origin, found_by, next_at, failures, parked_until, status)"
        " VALUES ($1, 'x', 'infinity', 7, 'infinity', 'banned')",
        HOST,
    )
    assert await enqueue.enqueue(settings, Asked(pds=HOST)) == 10
    assert await wanted(conn) == [did(number) for number in range(10)]
    row = await conn.fetchrow("SELECT next_at <= now() AS due, * FROM host")
    assert row is not None
    assert (row["due"], row["failures"], row["parked_until"], row["status"]) == (
        True,
        0,
        None,
        None,
    )


async def test_unknown_host_is_known_from_now_on(
    conn: asyncpg.Connection[Any], settings: Settings
) -> None:
    assert await enqueue.enqueue(settings, Asked(pds=HOST)) == 0
    assert await conn.fetchval("SELECT origin FROM host") == HOST


async def test_missing_are_those_that_nobody_tries_again(
    conn: asyncpg.Connection[Any], settings: Settings
) -> None:
    rows: list[tuple[Any, ...]] = [
        ("transient", None, None, None),
        ("poison", None, None, None),
        ("migrated", None, None, None),
        ("gone", None, None, None),
        ("deactivated", None, None, None),
        ("poison", "3a", None, None),
        ("transient", None, 5, None),
        (None, None, None, None),
        ("ok", "3a", None, None),
    ]
    await conn.executemany(
        "INSERT INTO repo (did, outcome, backfilled_rev, fetch_id, wanted)"
        " VALUES ($1, $2, $3, $4, $5)",
        [(did(number), *row) for number, row in enumerate(rows)],
    )
    assert await enqueue.enqueue(settings, Asked(missing=True)) == 3
    assert await wanted(conn) == [did(0), did(1), did(2)]


def test_file_of_dids(tmp_path: Path) -> None:
    path = tmp_path / "dids.csv"
    path.write_text(f"\ufeffDID,handle\n{did(1)},a\n\n {did(2)} \n{did(1)}\n")
    assert enqueue.read_csv(path) == [did(1), did(2)]


@pytest.mark.parametrize(
    ("text", "words"), [("did\nnope\n", "line 2: 'nope'"), (f"{did(1)}\ndid\n", "line 2: 'did'")]
)
def test_file_with_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "dids.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        enqueue.read_csv(path)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        enqueue.read_csv(tmp_path / "none")


def test_command(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    path = tmp_path / "dids.csv"
    path.write_text(f"{did(2)}\n{did(3)}\n")
    assert cli.main(["enqueue", did(1), did(2), "--csv", str(path)]) == 0
    assert capsys.readouterr().out == "3 to fetch\n"
    assert cli.main(["enqueue", "--missing"]) == 0
    assert capsys.readouterr().out == "0 to fetch\n"
    assert cli.main(["enqueue", "--pds", "PDS.example/"]) == 0
    for wrong in ([], ["did:nope"], ["--pds", "a b"], ["--csv", str(tmp_path / "none")]):
        capsys.readouterr()
        assert cli.main(["enqueue", *wrong]) == 2
        assert capsys.readouterr().err.startswith("headrace: ")
