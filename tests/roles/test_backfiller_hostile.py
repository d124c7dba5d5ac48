"""Hosts that fail, lie or resist: the right outcome, within bounds, and nobody else suffers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.core import wire
from engine.roles.backfiller import endings, session
from engine.simulate import hostile
from tests.roles import fix_backfill
from tests.roles.fix_backfill import MISDEEDS, Scene, did

LETTERS = "SELECT * FROM headrace.dead_letter"


@pytest.fixture
async def scene(
    database: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    monkeypatch.setattr(session, "SOON_SECONDS", 1e6)
    monkeypatch.setattr(endings, "PUT_OFF_SECONDS", 0.1)
    async with fix_backfill.scene(database, redis_url, str(tmp_path / "spool")) as made:
        yield made


async def tell(
    scene: Scene,
    name: str,
    misdeed: hostile.Misdeed,
    good: tuple[str, ...] = ("good",),
    **settings: Any,
) -> Any:
    """The row after one attempt at a repository whose host does that, beside a good one."""
    scene.add(name, 40)
    for each in good:
        scene.add(each)
    scene.server.misdeeds[did(name)] = misdeed
    await scene.push(name, *good)
    async with scene.running(**settings):
        for each in good:
            await scene.outcome(each, "ok")
        await scene.drained()
    assert not [entry for entry in await scene.entries(name) if isinstance(entry, wire.Slice)]
    row = await scene.row(name)
    assert row["fetch_id"] is None
    return row


@pytest.mark.parametrize(
    ("misdeed", "outcome", "words"),
    [
        ("truncated", "transient", "incomplete"),
        ("cut-at-block", "transient", "incomplete"),
        ("flipped", "poison", "hash"),
        ("nothing", "transient", "incomplete"),
        ("html", "transient", "incomplete"),
        ("hang-up", "transient", ""),
        ("bomb", "transient", "packed"),
        ("internal", "transient", "500"),
    ],
)
async def test_bad_answers_cost_an_attempt_and_append_nothing(
    scene: Scene, misdeed: str, outcome: str, words: str
) -> None:
    row = await tell(scene, "alice", MISDEEDS[misdeed])
    assert (row["outcome"], row["attempts"]) == (outcome, 1)
    assert words in row["outcome_error"]
    assert row["wait"] is not None


@pytest.mark.parametrize(
    ("misdeed", "words", "changes"),
    [
        ("endless", "more than", {"max_repo_bytes": 1 << 20}),
        # Alone: a good one must not meet so short a timeout, however slow this machine is.
        ("trickle", "no answer", {"http_timeout_secs": 1.0, "good": ()}),
    ],
)
async def test_bodies_without_an_end_are_cut_off(
    scene: Scene, misdeed: str, words: str, changes: dict[str, Any]
) -> None:
    row = await tell(scene, "alice", MISDEEDS[misdeed], **changes)
    assert (row["outcome"], row["attempts"]) == ("transient", 1)
    assert words in row["outcome_error"]
    assert scene.settings.backfiller.spool_dir
    assert list(Path(scene.settings.backfiller.spool_dir).rglob("*.*")) == []


async def test_a_repository_of_another_did_is_poison(scene: Scene) -> None:
    other = fix_backfill.repository("mallory", 3).export()
    row = await tell(scene, "alice", hostile.giving(lambda true: other))
    assert (row["outcome"], row["attempts"]) == ("poison", 1)
    assert did("mallory") in row["outcome_error"]


async def test_another_key_is_poison_after_the_document_was_read_anew(scene: Scene) -> None:
    made = scene.add("alice")
    forger = fix_backfill.repository("mallory", 0)
    scene.network.documents[made.did]["verificationMethod"][0]["publicKeyMultibase"] = (
        forger.key.multibase
    )
    await scene.push("alice")
    async with scene.running() as role:
        row = await scene.outcome("alice", "poison")
        assert role._lookups.refreshed == 1
    assert "not signed" in row["outcome_error"]
    assert await scene.entries("alice") == []


async def test_a_key_that_was_changed_is_found_by_reading_the_document_anew(scene: Scene) -> None:
    made = scene.add("alice")
    await scene.redis.set(f"did:key:{made.did}", fix_backfill.repository("old", 0).key.did_key)
    await scene.redis.set(f"did:pds:{made.did}", scene.server.url)
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "ok")
    assert await scene.redis.get(f"did:key:{made.did}") == made.key.did_key.encode()
    assert 86_000 < await scene.redis.ttl(f"did:key:{made.did}") <= 86_400


async def test_signatures_need_not_be_checked(scene: Scene) -> None:
    made = scene.add("alice")
    del scene.network.documents[made.did]["verificationMethod"]
    await scene.push("alice")
    async with scene.running(skip_signature_verification=True):
        await scene.outcome("alice", "ok")


async def test_a_repository_that_always_fails_is_given_up_after_exactly_so_many_attempts(
    scene: Scene,
) -> None:
    scene.add("alice")
    scene.server.misdeeds[did("alice")] = MISDEEDS["internal"]
    async with scene.running(max_retries=3):
        for attempt in (1, 2, 3):
            await scene.push("alice")  # as the lister does when its time has come
            await scene.until("SELECT count(*) = 1 FROM headrace.repo WHERE attempts = $1", attempt)
            await scene.drained()
            letters = await scene.db.fetch(LETTERS)
            assert len(letters) == (attempt == 3)
    assert scene.server.asked[did("alice")] == 3
    row, (letter,) = await scene.row("alice"), letters
    assert (row["outcome"], row["next_attempt_at"]) == ("transient", None)
    assert (letter["reason"], letter["error"], letter["attempts"]) == ("transient", "HTTP 500", 3)
    assert (letter["relay"], letter["source"]) == (scene.server.url, "repo_backfill")
    assert letter["first_seen_at"] <= letter["noted_at"]


async def test_success_ends_a_dead_letter_and_the_count_of_attempts(scene: Scene) -> None:
    scene.add("alice")
    scene.server.misdeeds[did("alice")] = hostile.times(1, MISDEEDS["internal"])
    async with scene.running(max_retries=1):
        await scene.push("alice")
        await scene.until("SELECT count(*) = 1 FROM headrace.dead_letter")
        await scene.drained()
        await scene.push("alice")
        row = await scene.outcome("alice", "ok")
    assert row["attempts"] == 0
    assert await scene.db.fetch(LETTERS) == []


@pytest.mark.parametrize("misdeed", ["too-many", "too-many-retry"])
async def test_too_many_requests_is_never_final(scene: Scene, misdeed: str) -> None:
    names = [f"u{number}" for number in range(6)]
    for name in names:
        scene.add(name)
    scene.server.misdeeds["*"] = hostile.times(5, MISDEEDS[misdeed])
    await scene.push(*names)
    async with scene.running(max_retries=1):
        await scene.until("SELECT count(*) = 6 FROM headrace.repo WHERE outcome = 'ok'")
    assert await scene.db.fetch(LETTERS) == []
    assert await scene.db.fetchval("SELECT max(attempts) FROM headrace.repo") == 0


async def test_who_is_too_busy_for_one_repository_again_and_again_puts_it_off(
    scene: Scene,
) -> None:
    row = await tell(scene, "alice", MISDEEDS["too-many-retry"])
    assert (row["outcome"], row["attempts"]) == ("transient", 0)
    assert row["next_attempt_at"] is not None


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        ("RepoTakendown", "taken_down", "takendown"),
        ("RepoSuspended", "suspended", "suspended"),
        ("RepoDeactivated", "deactivated", "deactivated"),
        ("RepoNotFound", "gone", None),
    ],
)
async def test_what_a_host_says_of_an_account_is_final_and_told_its_actor(
    scene: Scene, error: str, outcome: str, status: str | None
) -> None:
    scene.add("alice")
    scene.server.misdeeds[did("alice")] = hostile.refusing(400, error=error)
    await scene.push("alice")
    async with scene.running():
        row = await scene.outcome("alice", outcome)
        await scene.drained()
    assert (row["attempts"], row["next_attempt_at"], row["fetch_id"]) == (0, None, None)
    told = [entry for entry in await scene.entries("alice") if isinstance(entry, wire.Account)]
    assert [entry.status for entry in told] == ([status] if status else [])
    assert await scene.db.fetch(LETTERS) == []


async def test_an_account_that_was_inactive_and_gives_its_repository_is_active_again(
    scene: Scene,
) -> None:
    scene.add("alice")
    await scene.db.execute(
        "INSERT INTO headrace.repo (did, active, status) VALUES ($1, false, 'deactivated')",
        did("alice"),
    )
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "ok")
    (told,) = [entry for entry in await scene.entries("alice") if isinstance(entry, wire.Account)]
    assert (told.active, told.status, told.generation) == (True, None, 0)


async def test_a_did_that_is_not_registered_is_gone(scene: Scene) -> None:
    await scene.push("nobody")
    async with scene.running():
        row = await scene.outcome("nobody", "gone")
        await scene.drained()
    assert row["next_attempt_at"] is None


async def test_a_document_without_a_host_is_gone(scene: Scene) -> None:
    made = scene.add("alice")
    scene.network.documents[made.did]["service"] = []
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "gone")


async def test_a_directory_that_fails_costs_no_attempt(scene: Scene) -> None:
    scene.add("alice")
    scene.server.identity_status = 503
    await scene.push("alice")
    async with scene.running(max_retries=1):
        row = await scene.outcome("alice", "transient")
        await scene.drained()
        assert (row["attempts"], row["wait"] is not None) == (0, True)
        scene.server.identity_status = 200
        await scene.push("alice")
        await scene.outcome("alice", "ok")


async def test_an_account_that_moved_is_fetched_from_its_new_host(scene: Scene) -> None:
    made = scene.add("alice")
    scene.server.addresses["http://old.test"] = "127.0.0.77"  # nobody listens there
    await scene.redis.set(f"did:key:{made.did}", made.key.did_key)
    await scene.redis.set(f"did:pds:{made.did}", f"http://localhost:{scene.server.port}")
    scene.server.misdeeds[made.did] = hostile.times(1, hostile.refusing(400, error="RepoNotFound"))
    await scene.push("alice")
    async with scene.running(max_retries=1):
        row = await scene.outcome("alice", "ok")
    assert row["host"] == scene.server.url
    assert await scene.redis.get(f"did:pds:{made.did}") == scene.server.url.encode()


async def test_a_new_host_without_the_repository_yet_is_asked_again_later(scene: Scene) -> None:
    made = scene.add("alice")
    await scene.redis.set(f"did:key:{made.did}", made.key.did_key)
    await scene.redis.set(f"did:pds:{made.did}", f"http://localhost:{scene.server.port}")
    scene.server.misdeeds[made.did] = hostile.refusing(400, error="RepoNotFound")
    await scene.push("alice")
    async with scene.running():
        row = await scene.outcome("alice", "migrated")
    assert (row["attempts"], row["wait"] is not None) == (1, True)


async def test_a_snapshot_older_than_what_is_indexed_is_stale(scene: Scene) -> None:
    scene.add("alice")
    newer = fix_backfill.tid(fix_backfill.REV_MICROS + 1)
    await scene.db.execute(
        "INSERT INTO headrace.repo (did, rev) VALUES ($1, $2)", did("alice"), newer
    )
    await scene.push("alice")
    async with scene.running():
        row = await scene.outcome("alice", "transient")
    assert newer in row["outcome_error"]
    assert await scene.entries("alice") == []


async def test_a_rev_of_a_time_to_come_is_poison(scene: Scene) -> None:
    made = fix_backfill.repository("alice", 1, rev=4_000_000_000_000_000)
    scene.network.repositories[made.did] = made
    scene.register(made)
    await scene.push("alice")
    async with scene.running():
        await scene.outcome("alice", "poison")


async def test_a_host_that_is_down_is_parked_for_everybody_and_others_go_on(scene: Scene) -> None:
    names = [f"u{number}" for number in range(20)]
    for name in names:
        made = scene.add(name)
        scene.network.documents[made.did]["service"][0]["serviceEndpoint"] = "http://dead.test"
    scene.server.addresses["http://dead.test"] = "127.0.0.77"  # nobody listens there
    scene.add("good")
    await scene.push(*names, "good")
    async with scene.running(max_retries=5):
        await scene.outcome("good", "ok")
        await scene.drained()
    rows = await scene.db.fetch(
        "SELECT * FROM headrace.repo WHERE outcome = 'transient' AND next_attempt_at IS NOT NULL"
    )
    assert len(rows) == 20
    parked = await scene.db.fetch("SELECT origin FROM headrace.host WHERE parked_until IS NOT NULL")
    assert [row["origin"] for row in parked] == [f"http://127.0.0.77:{scene.server.port}"]
    assert await scene.db.fetch(LETTERS) == []


async def test_redirects_to_private_addresses_are_not_followed(scene: Scene) -> None:
    # The guard lets nothing private pass, so the host itself must be reached through it.
    scene.add("alice")
    scene.server.misdeeds[did("alice")] = hostile.redirecting("ftp://127.0.0.1/x")
    await scene.push("alice")
    async with scene.running():
        row = await scene.outcome("alice", "transient")
    assert "not an http address" in row["outcome_error"]


async def test_a_hostile_host_does_not_hold_up_another(scene: Scene) -> None:
    kinds = list(MISDEEDS)
    for number in range(60):
        scene.add(f"bad{number}", 3)
        scene.server.misdeeds[did(f"bad{number}")] = MISDEEDS[kinds[number % len(kinds)]]
    scene.server.addresses["http://good.test"] = "localhost"
    for number in range(30):
        scene.add(f"good{number}", 3, host="http://good.test")
    await scene.push(*(f"bad{number}" for number in range(60)))
    await scene.push(*(f"good{number}" for number in range(30)))
    async with scene.running(host_concurrency=20):
        await scene.until(
            "SELECT count(*) = 30 FROM headrace.repo WHERE outcome = 'ok' AND did LIKE $1",
            "did:plc:good%",
        )
    rows = await scene.db.fetch("SELECT DISTINCT host FROM headrace.repo WHERE outcome = 'ok'")
    assert f"http://localhost:{scene.server.port}" in {row["host"] for row in rows}
