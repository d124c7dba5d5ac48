"""Imported documents at work: who uses them, and what makes that they are asked for anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import orjson
import pytest

from engine.ops import plc_import
from engine.simulate import directory
from tests.roles import fix_backfill
from tests.roles.fix_backfill import Scene, did
from tests.roles.test_identity_role import NOTHING_LEFT, T1, running

NO_DIRECTORY = "http://127.0.0.1:1"
NOW_ISH = "UPDATE headrace.plc_log SET current_at = now()"


@pytest.fixture
async def scene(database: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with fix_backfill.scene(database, redis_url, str(tmp_path / "spool")) as made:
        yield made


async def take(scene: Scene, path: Path, **changes: Any) -> None:
    """Import the documents as they are now, with other hosts or keys if asked for."""
    documents = []
    for document in scene.network.documents.values():
        copied = orjson.loads(orjson.dumps(document))
        if "pds" in changes:
            copied["service"][0]["serviceEndpoint"] = changes["pds"]
        if "key" in changes:
            copied["verificationMethod"][0]["publicKeyMultibase"] = changes["key"]
        documents.append(copied)
    lines = directory.of_documents(documents)
    assert lines
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    await plc_import.run(scene.settings, str(path))
    await scene.db.execute(NOW_ISH)


def without_directory(scene: Scene) -> None:
    scene.settings = msgspec.structs.replace(scene.settings, plc_url=NO_DIRECTORY)


async def test_repositories_are_fetched_without_a_request_to_the_directory(
    scene: Scene, tmp_path: Path
) -> None:
    names = [f"a{letter}" for letter in "bcdefghijklmnopqrstu"]
    for name in names:
        scene.add(name, 2)
    await take(scene, tmp_path / "log")
    without_directory(scene)
    await scene.push(*names)
    async with scene.running() as role:
        for name in names:
            await scene.outcome(name, "ok")
        assert role._lookups.imported == len(names) == 20
        assert (role._lookups.misses, role._lookups.hits) == (0, 0)
    assert await scene.redis.keys("did:*") == []


async def test_a_document_that_an_event_called_changed_is_asked_for(
    scene: Scene, tmp_path: Path
) -> None:
    made = scene.add("alice")
    await take(scene, tmp_path / "log", pds="http://127.0.0.1:2")
    await scene.db.execute("UPDATE headrace.plc SET doubted = true")
    await scene.push("alice")
    async with scene.running() as role:
        await scene.outcome("alice", "ok")
        assert (role._lookups.imported, role._lookups.misses) == (0, 1)
    assert (await scene.row("alice"))["host"] == scene.server.url
    assert made.did


async def test_a_failed_signature_passes_over_the_import(scene: Scene, tmp_path: Path) -> None:
    scene.add("alice")
    old = fix_backfill.repository("old", 0).key.multibase
    await take(scene, tmp_path / "log", key=old)
    await scene.push("alice")
    async with scene.running() as role:
        await scene.outcome("alice", "ok")
        assert (role._lookups.imported, role._lookups.refreshed) == (1, 1)


async def test_a_host_without_the_repository_passes_over_the_import(
    scene: Scene, tmp_path: Path
) -> None:
    from engine import simulate

    async with simulate.serve(fix_backfill.Hosts()) as former:
        scene.add("alice")
        await take(scene, tmp_path / "log", pds=former.url)
        await scene.push("alice")
        async with scene.running() as role:
            await scene.outcome("alice", "ok")
            assert (role._lookups.imported, role._lookups.refreshed) == (1, 1)


@pytest.mark.parametrize("why", ["tombstone", "no host", "old"])
async def test_what_the_log_does_not_say_for_certain_is_asked_for(
    scene: Scene, tmp_path: Path, why: str
) -> None:
    made = scene.add("alice")
    if why == "no host":
        await take(scene, tmp_path / "log", pds="ftp://what")
    else:
        await take(scene, tmp_path / "log")
    if why == "tombstone":
        line = directory.tombstone(made.did, "2025-01-01T00:00:00.000Z")
        (tmp_path / "end").write_bytes(orjson.dumps(line))
        await plc_import.run(scene.settings, str(tmp_path / "end"))
    if why == "old":
        await scene.db.execute("UPDATE headrace.plc_log SET current_at = NULL")
    await scene.push("alice")
    async with scene.running() as role:
        await scene.outcome("alice", "ok")
        assert (role._lookups.imported, role._lookups.misses) == (0, 1)


async def add_due(db: asyncpg.Connection[Any], name: str, *, forced: bool) -> None:
    insert = "INSERT INTO headrace.identity_due (did, seq, time, forced) VALUES ($1, 1, $2, $3)"
    await db.execute(insert, did(name), T1, forced)


async def identities(scene: Scene) -> dict[str, str | None]:
    await scene.until(NOTHING_LEFT)
    return {row["did"]: row["handle"] for row in await scene.db.fetch("SELECT * FROM actor")}


def with_handles(scene: Scene) -> None:
    identity = msgspec.structs.replace(
        scene.settings.identity, handle_resolver=scene.server.url, plc_tail_interval_seconds=0.1
    )
    scene.settings = msgspec.structs.replace(scene.settings, identity=identity)


async def test_identities_are_looked_up_without_a_request_to_the_directory(
    scene: Scene, tmp_path: Path
) -> None:
    made = scene.add("alice")
    scene.network.handles["x.test"] = made.did
    await take(scene, tmp_path / "log")
    with_handles(scene)
    without_directory(scene)
    await add_due(scene.db, "alice", forced=False)
    async with running(scene.settings) as role:
        assert await identities(scene) == {made.did: "x.test"}
        assert role._counters.imported == 1


async def test_an_identity_event_asks_the_directory_and_doubts_what_is_known(
    scene: Scene, tmp_path: Path
) -> None:
    alice, bob = scene.add("alice"), scene.add("bob")
    await take(scene, tmp_path / "log")
    scene.network.operations = []  # the log lags
    scene.network.documents[alice.did]["alsoKnownAs"] = ["at://new.test"]
    scene.network.handles.update({"new.test": alice.did, "x.test": bob.did})
    with_handles(scene)
    for name in ("alice", "bob"):
        await add_due(scene.db, name, forced=True)
    async with running(scene.settings) as role:
        assert await identities(scene) == {alice.did: "new.test", bob.did: "x.test"}
        assert role._counters.imported == 0
    doubted = await scene.db.fetch("SELECT did FROM headrace.plc WHERE doubted")
    # The directory says of bob what is known, so that is as good as before.
    assert [row["did"] for row in doubted] == [alice.did]


async def test_the_role_reads_on_where_the_import_ends(scene: Scene, tmp_path: Path) -> None:
    made = scene.add("alice")
    await take(scene, tmp_path / "log")
    scene.register(made, "https://new.test")
    new = scene.network.documents[made.did]
    scene.network.operations = [directory.operation(new, "2025-01-01T00:00:00.000Z")]
    await scene.redis.set(f"did:pds:{made.did}", "https://old.test")
    with_handles(scene)
    async with running(scene.settings) as role:
        await scene.until("SELECT pds = 'https://new.test' FROM headrace.plc")
        await scene.until("SELECT current_at IS NOT NULL FROM headrace.plc_log")
        plc = role.report()["plc"]
        assert isinstance(plc, dict)
        assert plc["operations"] >= 1
    assert await scene.redis.keys("did:pds:*") == []


async def test_the_log_is_left_alone_where_the_setting_says_so(
    scene: Scene, tmp_path: Path
) -> None:
    made = scene.add("alice")
    scene.network.handles["x.test"] = made.did
    await take(scene, tmp_path / "log")
    with_handles(scene)
    identity = msgspec.structs.replace(scene.settings.identity, plc_tail=False)
    scene.settings = msgspec.structs.replace(scene.settings, identity=identity)
    await add_due(scene.db, "alice", forced=True)
    async with running(scene.settings):
        await identities(scene)
    assert scene.server.asked["/export"] == 0
