from __future__ import annotations

import asyncio
import logging
import socket

import aiohttp
import orjson
import pytest

from engine.ops.status import Relay, Status
from engine.ops.status_reader import StatusReader
from engine.runtime import status_server
from engine.runtime.status_server import Snapshots
from engine.settings import Settings


class CountingReader(StatusReader):
    """Reads nothing; counts how often it is asked."""

    def __init__(self) -> None:
        self.readings = 0

    async def collect(self) -> Status:
        self.readings += 1
        await asyncio.sleep(0.01)
        return Status(relays={"r": Relay(received_seq=self.readings)})


async def test_snapshots_share_one_reading_until_it_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_server, "FRESH_SECONDS", 600.0)
    reader = CountingReader()
    snapshots = Snapshots(reader)
    answers = await asyncio.gather(*(snapshots.json() for _ in range(20)))
    assert reader.readings == 1
    assert len(set(answers)) == 1
    monkeypatch.setattr(status_server, "FRESH_SECONDS", 0.0)
    await snapshots.json()
    assert reader.readings == 2


async def test_serve_answers_json_on_a_free_port(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runner = await status_server.serve(Settings(metrics_port=0), Snapshots(CountingReader()))
    assert runner is not None
    port = runner.addresses[0][1]
    assert f"http://127.0.0.1:{port}/status" in caplog.text
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/status") as reply,
    ):
        assert reply.content_type == "application/json"
        assert orjson.loads(await reply.read())["relays"]["r"]["received_seq"] == 1
    await runner.cleanup()


async def test_serve_port_in_use_is_a_warning_that_names_the_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(metrics_port=taken.getsockname()[1])
        assert await status_server.serve(settings, Snapshots(CountingReader())) is None
    assert "METRICS_PORT" in caplog.text
    assert '"in use"' in caplog.text
