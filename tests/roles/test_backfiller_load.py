"""Repositories that are files: the same checks, the same entries, and nobody is asked for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import cli
from engine.core import wire
from engine.errors import SettingsError
from engine.roles.backfiller import load
from engine.simulate.keys import K256, Key
from engine.simulate.repository import Repository
from tests.roles import fix_backfill
from tests.roles.fix_backfill import Scene, did


@pytest.fixture
async def scene(database: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with fix_backfill.scene(database, redis_url, str(tmp_path / "spool")) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cars"
    (folder / "deeper").mkdir(parents=True)
    return folder


def write(folder: Path, made: Repository) -> Path:
    path = folder / f"{made.did.replace(':', '_')}.car"
    path.write_bytes(made.export())
    return path


async def test_every_file_is_appended_whole_and_no_host_is_asked(
    scene: Scene, folder: Path
) -> None:
    made = [scene.add(f"u{number}", number % 7) for number in range(40)]
    for number, each in enumerate(made):
        write(folder / "deeper" if number % 2 else folder, each)
    found = await load.run(scene.settings, "load", folder)
    assert (found.repositories, found.refused) == (40, [])
    assert found.records == sum(len(each.records) for each in made)
    assert not scene.server.asked
    appended = await scene.appended()
    for each in made:
        entries = [entry for entry in appended if entry.did == each.did]
        closing = entries.pop()
        assert isinstance(closing, wire.Closing)
        assert (closing.rev, closing.records) == (each.rev, len(each.records))
        assert [record.path for part in entries for record in part.records] == sorted(each.records)
    rows = await scene.db.fetch("SELECT * FROM headrace.repo")
    assert {row["did"] for row in rows} == {each.did for each in made}
    for row in rows:
        assert row["outcome"] == ("ok" if row["records"] else "empty")
        assert row["fetched_at"] is not None
        assert row["host"] == scene.server.url


async def test_what_cannot_be_used_is_named_and_the_others_go_on(
    scene: Scene, folder: Path
) -> None:
    good = scene.add("good", 3)
    write(folder, good)
    cut = write(folder, scene.add("cut", 3))
    cut.write_bytes(cut.read_bytes()[:-10])
    forged = Repository(did("forged"), Key(K256, b"another key".rjust(32, b"k")))
    forged.commit([], fix_backfill.tid(fix_backfill.REV_MICROS), 1, "2025-10-09T00:00:00.000Z")
    scene.add("forged")
    stranger = fix_backfill.repository("stranger")
    wrong = {cut: "incomplete", write(folder, forged): "not signed by the key"}
    wrong[write(folder, stranger)] = "no such DID"
    (folder / "text.car").write_bytes(b"text")
    wrong[folder / "text.car"] = "incomplete"
    found = await load.run(scene.settings, "load", folder)
    assert found.repositories == 1
    assert {path for path, _ in found.refused} == set(wrong)
    for path, reason in found.refused:
        assert wrong[path] in reason
    assert {entry.did for entry in await scene.appended()} == {good.did}
    assert await scene.db.fetchval("SELECT count(*) FROM headrace.repo") == 1


async def test_an_older_snapshot_than_what_is_indexed_is_left_to_its_host(
    scene: Scene, folder: Path
) -> None:
    made = scene.add("alice")
    write(folder, made)
    newer = fix_backfill.tid(fix_backfill.REV_MICROS + 1)
    await scene.db.execute("INSERT INTO headrace.repo (did, rev) VALUES ($1, $2)", made.did, newer)
    found = await load.run(scene.settings, "load", folder)
    assert [reason for _, reason in found.refused] == [
        f"a snapshot at {made.rev}, of which {newer} is indexed"
    ]
    assert not await scene.appended()
    row = await scene.row("alice")
    assert (row["fetch_id"], row["outcome"], row["attempts"]) == (None, None, 0)
    assert row["wait"] <= 0


async def test_without_signatures_no_document_is_asked_for(scene: Scene, folder: Path) -> None:
    write(folder, fix_backfill.repository("stranger", 2))
    settings = scene.with_settings(skip_signature_verification=True)
    found = await load.run(settings, "load", folder)
    assert (found.repositories, found.records) == (1, 2)


async def test_a_large_file_is_not_read_at_once(
    scene: Scene, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "IN_MEMORY_BYTES", 1000)
    made = scene.add("alice", 500)
    write(folder, made)
    found = await load.run(scene.settings, "load", folder)
    assert (found.repositories, found.records, found.refused) == (1, 500, [])
    await scene.outcome("alice", "ok")


async def test_a_folder_without_exports_is_a_mistake(scene: Scene, folder: Path) -> None:
    with pytest.raises(SettingsError, match="car in it"):
        await load.run(scene.settings, "load", folder)


def test_the_command_counts_and_names(
    database: str,
    redis_url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(folder, fix_backfill.repository("alice", 2))
    for name, value in {
        "DATABASE_URL": database,
        "REDIS_URL": redis_url,
        "DATA_DIR": str(folder),
        "BACKFILLER_SKIP_SIGNATURE_VERIFICATION": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["load", str(folder)]) == 0
    assert "1 repositories, 2 records, 0 filtered" in capsys.readouterr().out
    (folder / "bad.car").write_bytes(b"bad")
    assert cli.main(["load", str(folder)]) == 1
    assert f"{folder / 'bad.car'}: incomplete" in capsys.readouterr().out
