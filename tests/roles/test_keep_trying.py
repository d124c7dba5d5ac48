"""The base of the roles: sessions, pauses between them, and what is said meanwhile."""

from __future__ import annotations

import asyncio
import logging

import pytest

from engine import errors
from engine.core import backoff
from engine.roles import keep_trying
from engine.roles.keep_trying import KeepTrying


class Scripted(KeepTrying):
    """Each session does so many things, then fails as told; the last one waits for the stop."""

    LINE, PROGRESS = "scripted", "done"

    def __init__(self, *script: tuple[int, Exception]) -> None:
        super().__init__()
        self.script = list(script)
        self.done = 0

    async def _session(self, stop: asyncio.Event) -> None:
        self._state = "running"
        if not self.script:
            await stop.wait()
            return
        done, failure = self.script.pop(0)
        self.done += done
        raise failure

    def _counts(self) -> dict[str, int]:
        return {"done": self.done, "other": 7}


async def finish(role: Scripted) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    async with asyncio.timeout(20):
        while role.script and not running.done():
            await asyncio.sleep(0.001)
        while role._state != "running" and not running.done():
            await asyncio.sleep(0.001)
        stop.set()
        await running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_trying, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(keep_trying, "LONGEST_PAUSE_SECONDS", 0.01)


async def test_a_store_that_fails_is_tried_again_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    role = Scripted(*((0, errors.StoreUnavailable(f"away {n}")) for n in range(3)))
    await finish(role)
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().split(";")[0] for record in said] == ["away 0", "away 1", "away 2"]
    assert {record.name for record in said} == {__name__}
    assert role._state == "stopping"


async def test_pauses_grow_until_something_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Noted(backoff.Backoff):
        def reset(self) -> None:
            calls.append("reset")
            super().reset()

        def next(self, dice: float) -> float:
            calls.append("next")
            return super().next(dice)

    monkeypatch.setattr(backoff, "Backoff", Noted)
    await finish(Scripted(*((done, errors.StoreError("x")) for done in (0, 0, 5, 0))))
    assert calls == ["next", "next", "reset", "next", "next"]


@pytest.mark.parametrize(
    "failure",
    [errors.SchemaMismatch("x"), errors.SettingsError("x"), errors.UnknownEnvelope("x")],
)
async def test_what_waiting_does_not_mend_ends_the_role(failure: errors.HeadraceError) -> None:
    role = Scripted((0, failure), (0, errors.StoreError("never reached")))
    with pytest.raises(type(failure)):
        await asyncio.wait_for(role.run(asyncio.Event()), 20)
    assert len(role.script) == 1


async def test_stop_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_trying, "FIRST_PAUSE_SECONDS", 600.0)
    monkeypatch.setattr(keep_trying, "LONGEST_PAUSE_SECONDS", 600.0)
    role, stop = Scripted((0, errors.StoreError("x")), (0, errors.StoreError("y"))), asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    async with asyncio.timeout(20):
        while role._state != "waiting":
            await asyncio.sleep(0.001)
        stop.set()
        await running


async def test_line_of_progress_has_what_was_done_since_the_last(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(keep_trying, "REPORT_SECONDS", 0.02)
    role, stop = Scripted(), asyncio.Event()
    running = asyncio.create_task(role.run(stop))

    async def said(line: str) -> None:
        async with asyncio.timeout(20):
            while line not in caplog.messages:
                await asyncio.sleep(0.001)

    await said("scripted done=0 other=0 state=running")
    role.done = 4
    await said("scripted done=4 other=0 state=running")
    role.done = 5
    await said("scripted done=1 other=0 state=running")
    stop.set()
    await running
