"""Redis or Postgres away, emptied, torn, full: nothing that the relay serves is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from engine.adapters import embedded
from engine.adapters.resp import RespConnection
from engine.core import streams
from engine.errors import SchemaMismatch, SettingsError, StreamsTorn
from engine.roles.indexer import position as positions
from engine.roles.indexer.position import Position
from engine.sql import load
from tests import fix_relay
from tests.fix_ingest import KEYS, Ingest, until
from tests.fix_relay import Relay

pytestmark = pytest.mark.services


async def epoch_of(ingest: Ingest) -> str:
    async with ingest.db() as db:
        epoch = await db.fetchval("SELECT epoch FROM headrace.deployment")
        assert isinstance(epoch, str)
        return epoch


def busy_stream(ingest: Ingest) -> str:
    """A stream that holds something."""
    return KEYS.stream(streams.LIVE, streams.shard_of(ingest.relay.did_of[1], 16))


@pytest.fixture
async def fragile(database: str, own_valkey: embedded.Valkey) -> AsyncIterator[Ingest]:
    """An ingest whose Redis may be killed, and keeps nothing."""
    async with fix_relay.running(Relay()) as relay:
        yield Ingest(database, own_valkey.url, [relay], {})


async def test_flushall_has_everything_sent_again(ingest: Ingest) -> None:
    ingest.relay.fill(1500)
    ingest.relay.scripts.append(fix_relay.stall_after(700))
    async with ingest.running() as role:
        await ingest.reached(700)
        before = await epoch_of(ingest)
        async with ingest.redis() as client:
            await client.flushdb()
        # The relay is silent: only the look at the epoch can notice.
        await ingest.reached(1500)
        (counters,) = role._counters.values()
        assert counters.reconnects["epoch"] == 1
    assert await epoch_of(ingest) != before
    assert ingest.relay.cursors == [0, 0]
    await ingest.assert_exactly_the_log()


async def test_flushall_under_load_has_everything_sent_again(ingest: Ingest) -> None:
    ingest.relay.fill(30_000)
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        for times in (1, 2):
            ops = counters.ops
            await until(lambda ops=ops: counters.ops > ops + 3000)  # type: ignore[misc]
            async with ingest.redis() as client:
                await client.flushdb()
            await until(lambda n=times: counters.reconnects["epoch"] == n)  # type: ignore[misc]
        await ingest.reached(30_000, seconds=60)
    await ingest.assert_exactly_the_log()


async def test_deleted_stream_has_everything_sent_again(ingest: Ingest) -> None:
    ingest.relay.fill(1000)
    async with ingest.running() as role:
        await ingest.reached(1000)
        async with ingest.redis() as client:
            await client.delete(busy_stream(ingest))
        last = 1001
        ingest.relay.add(last, ingest.relay.did_of[1])
        await ingest.relay.tell()
        (counters,) = role._counters.values()
        await until(lambda: counters.reconnects["epoch"] == 1)
        await until(lambda: len(ingest.relay.cursors) == 2)
        await ingest.reached(last)
    await ingest.assert_exactly_the_log()


async def test_stream_deleted_while_nobody_ran_is_noticed_at_the_start(ingest: Ingest) -> None:
    ingest.relay.fill(1000)
    async with ingest.running():
        await ingest.reached(1000)
    async with ingest.redis() as client:
        await client.delete(busy_stream(ingest))
    async with ingest.running():
        await until(lambda: len(ingest.relay.cursors) == 2)
        await ingest.reached(1000)
    assert ingest.relay.cursors == [0, 0]
    await ingest.assert_exactly_the_log()


async def test_append_that_fails_in_part_counts_the_epoch_as_lost(ingest: Ingest) -> None:
    ingest.relay.fill(200)
    async with ingest.running() as role:
        await ingest.reached(200)
        async with ingest.redis() as client:
            await client.delete(busy_stream(ingest))
            await client.set(busy_stream(ingest), "no stream")
        ingest.relay.fill(200)
        await ingest.relay.tell()
        (counters,) = role._counters.values()
        await until(lambda: counters.reconnects["epoch"] == 1)
        await ingest.reached(400)
    await ingest.assert_exactly_the_log()


async def test_lost_cursor_is_found_again_from_postgres(ingest: Ingest) -> None:
    ingest.relay.fill(300)
    async with ingest.running():
        await ingest.reached(300)
    async with ingest.redis() as client:
        await client.delete(KEYS.cursor(streams.LIVE, ingest.relay.host))
    async with ingest.running():
        await ingest.reached(300)
    await ingest.assert_exactly_the_log()


async def test_stream_reported_torn_by_its_owner_is_made_anew(ingest: Ingest) -> None:
    ingest.relay.fill(400)
    async with ingest.running() as role:
        await ingest.reached(400)
        async with ingest.db() as db:
            await db.execute("UPDATE headrace.deployment SET epoch = ''")
        (counters,) = role._counters.values()
        await until(lambda: counters.reconnects["epoch"] == 1)
        await until(lambda: len(ingest.relay.cursors) == 2)
        await ingest.reached(400)
    await ingest.assert_exactly_the_log()


async def test_new_epoch_begins_where_postgres_ends(ingest: Ingest) -> None:
    ingest.relay.fill(1000)
    key = f"{ingest.relay.host}/1"
    async with ingest.running():
        await ingest.reached(1000)
    async with ingest.db() as db:
        for shard in range(16):
            relays = f'{{"{key}": {{"seq": {500 + shard}, "applied": 30, "duplicate": 2}}}}'
            await db.execute(
                "UPDATE headrace.position SET relays = $1 WHERE shard = $2 AND source = $3",
                relays,
                shard,
                streams.LIVE,
            )
    async with ingest.redis() as client:
        await client.flushdb()
    async with ingest.running():
        await ingest.reached(1000)
    assert ingest.relay.cursors == [0, 500]
    seqs = await ingest.seqs()
    assert (min(filter(None, seqs)), len(seqs)) == (501, 500)
    async with ingest.redis() as client:
        received = await client.hgetall(KEYS.received(streams.LIVE, ingest.relay.host))
    assert received == {b"1": b"%d" % (16 * 32 + 500)}


async def test_shard_that_never_saw_the_relay_rewinds_to_its_first_seq(ingest: Ingest) -> None:
    ingest.variables["INGESTER_INITIAL_CURSOR"] = "100"
    ingest.relay.fill(200)
    async with ingest.running():
        await ingest.reached(200)
    async with ingest.db() as db:
        await db.execute(
            "UPDATE headrace.position SET relays = $1 WHERE shard <> 3",
            f'{{"{ingest.relay.host}/1": {{"seq": 190}}}}',
        )
    async with ingest.redis() as client:
        await client.flushdb()
    async with ingest.running():
        await ingest.reached(200)
    assert ingest.relay.cursors == [100, 100]


async def test_epoch_waits_for_owners_and_refuses_what_they_read_before(ingest: Ingest) -> None:
    ingest.relay.fill(100)
    sql = load("shards", state="headrace")
    async with ingest.running() as role, ingest.db() as owner:
        await ingest.reached(100)
        old = await epoch_of(ingest)
        late = Position(shard=3, epoch=old, entry_id="1-1", entries=1)
        async with owner.transaction():
            await owner.fetch(sql["shard_lock"], [3], [0])
            async with ingest.redis() as client:
                await client.flushdb()
            await asyncio.sleep(1.5)
            assert await epoch_of(ingest) == old
            await positions.store(owner, sql, streams.LIVE, [late])
        (counters,) = role._counters.values()
        await until(lambda: len(ingest.relay.cursors) == 2)
        assert counters.reconnects["epoch"] == 1
        with pytest.raises(StreamsTorn):
            await positions.store(owner, sql, streams.LIVE, [late])
        await ingest.reached(100)
    await ingest.assert_exactly_the_log()


async def test_redis_killed_and_back_without_its_data(
    fragile: Ingest, own_valkey: embedded.Valkey
) -> None:
    fragile.relay.fill(20_000)
    async with fragile.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: counters.ops > 3000)
        own_valkey.kill()
        await until(lambda: counters.reconnects["store"] >= 1)
        assert not counters.connected
        own_valkey.restart()
        await fragile.reached(20_000, seconds=60)
    await fragile.assert_exactly_the_log()


async def test_redis_down_at_start_is_waited_for(
    fragile: Ingest, own_valkey: embedded.Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    fragile.relay.fill(100)
    own_valkey.kill()
    async with fragile.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: counters.reconnects["store"] >= 2)
        assert role.report()["state"] == "waiting for stores"
        own_valkey.restart()
        await fragile.reached(100)
        assert role.report()["state"] == "running"
    assert any("cannot be reached" in record.getMessage() for record in caplog.records)
    await fragile.assert_exactly_the_log()


async def test_postgres_is_needed_to_begin_and_not_to_go_on(
    own_postgres: embedded.Postgres, redis_url: str
) -> None:
    async with fix_relay.running(Relay()) as relay:
        relay.fill(100)
        relay.scripts += [Relay.serve, Relay.serve]
        ingest = Ingest(own_postgres.url, redis_url, [relay], {})
        own_postgres.kill()
        async with ingest.running() as role:
            (counters,) = role._counters.values()
            await until(lambda: counters.reconnects["store"] >= 2)
            assert relay.cursors == []
            own_postgres.restart()
            await ingest.reached(100)
            own_postgres.kill()
            relay.fill(100)
            await relay.tell()
            await ingest.reached(200)
            own_postgres.restart()
        await ingest.assert_exactly_the_log()


async def test_streams_of_another_deployment_are_refused(ingest: Ingest) -> None:
    async with ingest.redis() as client:
        await client.set(KEYS.epoch, "someone:else")
    with pytest.raises(SettingsError, match="REDIS_KEY_PREFIX"):
        async with ingest.running() as role:
            await until(lambda: role._executor._shutdown)
    assert ingest.relay.cursors == []


async def test_database_without_our_tables_is_named(empty_database: str, redis_url: str) -> None:
    async with fix_relay.running(Relay()) as relay:
        ingest = Ingest(empty_database, redis_url, [relay], {})
        with pytest.raises(SchemaMismatch):
            async with ingest.running() as role:
                await until(lambda: role._executor._shutdown)


async def test_prefix_is_put_before_every_key(ingest: Ingest) -> None:
    ingest.variables["REDIS_KEY_PREFIX"] = "mine:"
    ingest.relay.fill(50)
    async with ingest.running() as role:
        (counters,) = role._counters.values()
        await until(lambda: counters.ops == 50)
    async with ingest.redis() as client:
        names = [str(name) for name in await client.keys("*")]
    assert len(names) >= 16
    assert all(name.startswith("b'mine:") for name in names)


# The process dies at any moment.

_PROCESS = """
import asyncio, sys
from engine import settings
from engine.roles.firehose import FirehoseRole
asyncio.run(FirehoseRole("firehose", settings.load()).run(asyncio.Event()))
"""


async def test_killed_process_loses_and_repeats_nothing(ingest: Ingest) -> None:
    """SIGKILL at random moments of a run, then a run to the end."""
    ingest.relay.fill(40_000)
    ingest.relay.rate = 5_000
    dice = random.Random(7)
    cursors: list[int] = []

    async def has_reached(seq: int) -> bool:
        return (await ingest.cursor() or 0) >= seq

    for _ in range(8):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROCESS,
            env={
                "DATABASE_URL": ingest.database_url,
                "REDIS_URL": ingest.redis_url,
                "INGESTER_RELAY_HOSTS": ingest.relay.url,
                "INGESTER_BATCH_SIZE": "50",
            },
            stderr=asyncio.subprocess.DEVNULL,
        )
        further = max(cursors, default=0) + dice.randint(1, 2000)
        await until(lambda seq=further: has_reached(seq))  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        await process.wait()
        cursors.append(await ingest.cursor() or 0)
    assert cursors == sorted(cursors)
    assert cursors[-1] < 40_000, "not all of them were killed at work"
    ingest.relay.rate = 0
    async with ingest.running():
        await ingest.reached(40_000, seconds=60)
    await ingest.assert_exactly_the_log()


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_connection_cut_around_an_append_repeats_nothing(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """The reply of an append never comes; whether it ran only Redis knows."""
    ingest.variables["INGESTER_BATCH_SIZE"] = "100"
    ingest.relay.fill(2000)
    sent = 0
    whole_start = RespConnection.start

    async def start(self, payload, replies):  # type: ignore[no-untyped-def]
        """Hand the bytes over (or not), see that Redis ran them, and drop the connection."""
        nonlocal sent
        is_append = not isinstance(payload, bytes) and any(b"received" in p for p in payload)
        if not is_append:
            return await whole_start(self, payload, replies)
        sent += 1
        if sent % 4:
            return await whole_start(self, payload, replies)
        if cut == "before":
            self.close()
            return await whole_start(self, payload, replies)
        future = await whole_start(self, payload, replies)
        await asyncio.wait([future])
        lost = asyncio.get_running_loop().create_future()
        lost.add_done_callback(lambda f: f.exception())
        self.close()
        with contextlib.suppress(Exception):
            await whole_start(self, payload, replies)
        lost.set_exception(self._failure())
        return lost

    monkeypatch.setattr(RespConnection, "start", start)
    async with ingest.running() as role:
        await ingest.reached(2000)
        (counters,) = role._counters.values()
        assert counters.reconnects["store"] >= 4
    await ingest.assert_exactly_the_log()
