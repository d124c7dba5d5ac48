"""Where labels stand: read from both stores, told in words, and when nothing is left to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest
import redis.asyncio

from engine.core.streams import LABELS, LabelKeys
from engine.ops import label_status, status
from engine.ops.label_status import Labeler, Labels
from engine.ops.status import Status
from engine.ops.status_reader import StatusReader
from engine.runtime.supervisor import SILENCE_SECONDS, Silence
from engine.settings import Settings

KEYS = LabelKeys()
HOST = "labels.example"
ROLES = ("labels",)


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    made = await asyncpg.connect(database, server_settings={"search_path": "headrace"})
    yield made
    await made.close()


async def fill(client: redis.asyncio.Redis, conn: asyncpg.Connection[Any]) -> list[str]:
    """A labeler read up to 9 in its second life, two entries, the first committed; their ids."""
    insert = (
        "INSERT INTO label_position (host, generation, seq, outcomes, letters_left_out) "
        "VALUES ($1, $2, $3, $4, 1)"
    )
    await conn.execute(insert, HOST, 1, 30, '{"applied": 5, "duplicate": 1}')
    await conn.execute(insert, HOST, 2, 7, '{"applied": 2, "rejected:bad_field": 3}')
    await conn.execute("INSERT INTO label_gap VALUES ($1, 1, 10, 20), ($1, 2, 3, 5)", HOST)
    await client.set(KEYS.epoch, "some-id:l1")
    ids = []
    for _ in range(2):
        entry_id = await client.xadd(KEYS.stream(LABELS, 0), {"event": b"\xff\x00"})
        assert isinstance(entry_id, bytes)
        ids.append(entry_id.decode())
    await client.set(KEYS.cursor(LABELS, HOST), 9)
    await client.hset(KEYS.events(LABELS), "0", 4)
    await conn.execute("UPDATE label_stream SET epoch = 'l1', entry_id = $1, entries = 1", ids[0])
    said = {"state": "streaming", "connected": True, "named": True, "pending": False}
    beat = {"role": "labels", "at": 1.0, "labelers": {HOST: said}, "unplaced": 0}
    await client.set(KEYS.process("labels"), orjson.dumps(beat))
    return ids


async def test_status_tells_how_far_labelers_are_indexed_and_what_is_missing(
    database: str, redis_url: str, conn: asyncpg.Connection[Any]
) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    reader = StatusReader(Settings(database_url=database, redis_url=redis_url))
    try:
        ids = await fill(client, conn)
        found = await reader.collect()
        assert found.errors == []
        assert found.labels.waiting
        assert found.labels.events == 4
        labeler = found.labels.labelers[HOST]
        assert (labeler.generation, labeler.received_seq, labeler.indexed_seq) == (2, 9, 7)
        assert (labeler.labels, labeler.rejected, labeler.letters_left_out) == (11, 3, 2)
        assert (labeler.gap_count, len(labeler.gaps)) == (2, 2)
        assert labeler.connected is True
        text = status.render_text(found)
        assert f"labeler {HOST}: streaming, received 9, indexed 7, 11 labels, 3 rejected" in text
        assert "2 gaps" in text
        assert "gap after 3 before 5" in text
        assert orjson.loads(status.render_json(found))["labels"]["labelers"][HOST]["gap_count"] == 2
        assert not status.caught_up(found, [], ROLES)
        await conn.execute("UPDATE label_stream SET entry_id = $1", ids[1])
        found = await reader.collect()
        assert found.labels.labelers[HOST].indexed_seq == 9
        assert status.caught_up(found, [], ROLES)
        # A stream that is lost hides what it held.
        await client.delete(KEYS.stream(LABELS, 0))
        assert not status.caught_up(await reader.collect(), [], ROLES)
    finally:
        await reader.close()
        await client.aclose()


def labeler(**fields: Any) -> Labeler:
    quiet = {"state": "streaming", "connected": True, "named": True, "pending": False}
    return Labeler(**{**quiet, "generation": 1, "received_seq": 5, "indexed_seq": 5, **fields})


@pytest.mark.parametrize(
    ("labels", "is_done"),
    [
        (Labels({}, unplaced=0), True),
        (Labels({}, unplaced=None), False),  # nobody tells
        (Labels({}, unplaced=1), False),
        (Labels({HOST: labeler()}, unplaced=0), True),
        (Labels({HOST: labeler(received_seq=None)}, unplaced=0), True),  # it never said anything
        (Labels({HOST: labeler()}, unplaced=0, waiting=True), False),
        (Labels({HOST: labeler(received_seq=6)}, unplaced=0), False),
        (Labels({HOST: labeler(pending=True)}, unplaced=0), False),
        (Labels({HOST: labeler(connected=False, failures=9)}, unplaced=0), False),
        # One that only declares itself may be gone for good, once it was tried.
        (Labels({HOST: labeler(connected=False, named=False)}, unplaced=0), False),
        (Labels({HOST: labeler(connected=False, named=False, failures=1)}, unplaced=0), True),
        # One that is not read any more.
        (Labels({HOST: Labeler(generation=1, indexed_seq=5)}, unplaced=0), True),
    ],
)
def test_labels_are_caught_up_when_all_that_came_is_indexed(labels: Labels, is_done: bool) -> None:
    assert label_status.caught_up(labels, ROLES) is is_done
    assert label_status.caught_up(labels, ("firehose",))


def test_silence_begins_again_with_a_label_and_waits_for_a_look_for_labelers() -> None:
    def seen(seq: int, at: float, looked: float | None = None) -> Status:
        labels = Labels({HOST: labeler(received_seq=seq, indexed_seq=seq)}, unplaced=0)
        labels.discovered_at = looked
        return Status(at=at, labels=labels)

    silence = Silence([], ROLES)
    assert not silence.observe(seen(5, 1.0), 1.0)
    assert not silence.observe(seen(6, 2.5), 2.5)
    assert not silence.observe(seen(6, 4.0), 4.0)
    assert silence.observe(seen(6, 5.0), 2.5 + SILENCE_SECONDS)
    assert not silence.observe(seen(6, 5.0, looked=2.4), 5.0)
    assert silence.observe(seen(6, 5.0, looked=2.6), 5.0)
