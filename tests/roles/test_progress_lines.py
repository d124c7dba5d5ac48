"""What each role says every ten seconds, and when its state changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator

import pytest

from engine.roles import keep_trying
from engine.roles.firehose import role as firehose
from engine.roles.firehose.counters import RelayCounters, State, places, totals
from engine.roles.identity import IdentityRole
from engine.roles.indexer import IndexerRole
from engine.roles.indexer.position import Position, lowest_held
from tests.fix_ingest import Ingest, until


@contextlib.asynccontextmanager
async def at_work(role: IndexerRole | IdentityRole) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(role.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


def lines(caplog: pytest.LogCaptureFixture, word: str) -> list[dict[str, str]]:
    """The ``key=value`` of each INFO line that begins with the word."""
    return [
        dict(re.findall(r'(\w+)=("[^"]*"|\S*)', record.getMessage()))
        for record in caplog.records
        if record.levelno == logging.INFO and record.getMessage().split()[0] == word
    ]


async def test_roles_say_what_they_did_and_where_they_are(
    ingest: Ingest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="engine")
    for module in (firehose, keep_trying):
        monkeypatch.setattr(module, "REPORT_SECONDS", 0.1)
    ingest.variables |= {"PLC_URL": "http://127.0.0.1:1", "NETWORK_ALLOW_PRIVATE": "true"}
    ingest.relay.fill(50)
    place = f"{ingest.relay.host}/1:50"
    ours = IndexerRole("indexer/0", ingest.settings())
    # Nobody answers for these DIDs: look-ups fail, which is read and not written.
    names = IdentityRole("identity", ingest.settings())
    async with ingest.running(), at_work(ours), at_work(names):
        await until(lambda: any(line["position"] == place for line in lines(caplog, "ingested")))
        await until(lambda: any(line["position"] == place for line in lines(caplog, "indexed")))
        await until(lambda: sum(int(line["trimmed"]) for line in lines(caplog, "indexed")) == 50)
        await until(lambda: len(lines(caplog, "identities")) >= 1)
    for name, keys in {
        "ingested": {"read": 50, "written": 50, "filtered": 0},
        "indexed": {"read": 50, "filtered": 0},
    }.items():
        for key, total in keys.items():
            assert sum(int(line[key]) for line in lines(caplog, name)) == total, (name, key)
    assert lines(caplog, "indexed")[-1]["state"] == "running"
    assert {"read", "written", "state"} <= lines(caplog, "identities")[0].keys()
    messages = [record.getMessage() for record in caplog.records]
    for words in ("connecting relay=", "connected relay=", "claiming shards", "ready, owning"):
        assert sum(message.startswith(words) for message in messages) == 1, words


def test_line_of_the_ingester_counts_all_relays_and_names_each() -> None:
    first = RelayCounters(State.STREAMING, generation=1, received_seq=7, frames=5, ops=10)
    first.filtered, first.rejected_ops = 2, 1
    second = RelayCounters(State.FULL, generation=3, received_seq=9, frames=1, ops=4)
    relays = {"a": first, "b": second, "c": RelayCounters()}
    assert totals(relays) == {"read": 6, "written": 11, "filtered": 2, "rejected": 1}
    assert places(relays) == {
        "position": "a/1:7,b/3:9",
        "state": "streaming,backpressure,starting",
    }


def test_lowest_held_is_of_the_newest_generation() -> None:
    held = {
        0: Position(0, "e", relays={"a/9": {"seq": 5}, "a/10": {"seq": 7}, "b/1": {"seq": 3}}),
        1: Position(1, "e", relays={"a/10": {"seq": 6}}),
    }
    assert lowest_held(held) == {"a/10": 6, "b/1": 3}
    assert lowest_held({}) == {}
