"""Each role, started in a process of its own with an environment of the pipeline it replaces."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from engine.adapters import embedded
from tests import fix_relay
from tests.fix_ingest import until
from tests.fix_relay import Relay
from tests.runtime.test_up import Command

INGESTER = {
    "INGESTER_LABELER_HOSTS": "mod.bsky.app",
    "INGESTER_MODE": "all",
    "INGESTER_HIGH_WATER_MARK": "100000000",
    "INGESTER_BATCH_SIZE": "500",
    "INGESTER_BATCH_TIMEOUT_MS": "100",
    "METRICS_PORT": "4100",
    "RUST_LOG": "ingester=info,rsky_ingester=info",
}
BACKFILLER = {
    "BACKFILLER_BACKFILL_STREAM": "repo_backfill",
    "BACKFILLER_FIREHOSE_STREAM": "firehose_backfill",
    "BACKFILLER_DLQ_STREAM": "repo_backfill_dlq",
    "BACKFILLER_GROUP": "repo_backfill_group",
    "BACKFILLER_CONSUMER": "backfiller_1",
    "BACKFILLER_CONCURRENCY": "20",
    "BACKFILLER_BATCH_SIZE": "500",
    "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": "500000",
    "BACKFILLER_HTTP_TIMEOUT_SECS": "60",
    "BACKFILLER_MAX_RETRIES": "3",
    "BACKFILLER_RETRY_INITIAL_BACKOFF_MS": "1000",
    "BACKFILLER_RETRY_MAX_BACKOFF_MS": "30000",
    "BACKFILLER_METRICS_PORT": "9090",
    "BACKFILLER_SKIP_SIGNATURE_VERIFICATION": "false",
    "RUST_LOG": "info,rsky_backfiller=debug",
}
INDEXER = {
    "INDEXER_MODE": "stream",
    "INDEXER_STREAMS": "firehose_live,firehose_backfill",
    "INDEXER_GROUP": "firehose_group",
    "INDEXER_CONSUMER": "indexer_1",
    "INDEXER_CONCURRENCY": "100",
    "INDEXER_BATCH_SIZE": "500",
    "DB_POOL_MAX_SIZE": "200",
    "DB_POOL_MIN_IDLE": "5",
    "ENABLE_DID_RESOLUTION": "true",
    "PLC_URL": "https://plc.directory",
    "METRICS_PORT": "9090",
    "RUST_LOG": "indexer=info,rsky_indexer=info",
}


async def run(
    role: str,
    words: str,
    environ: dict[str, str],
    done: Callable[[], Awaitable[bool]] | None = None,
) -> str:
    """Start the role, wait for words in its log and until it is done, stop it; the log."""
    process = Command("run", role, **environ)
    try:
        await asyncio.to_thread(process.until, words)
        if done is not None:
            await until(done)
        code, _, log = await asyncio.to_thread(process.end, signal.SIGTERM)
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()
    assert code == 0
    assert "Traceback" not in log
    return log


async def test_ingester(database: str, redis_url: str) -> None:
    relay = Relay()
    relay.fill(20)
    async with fix_relay.running(relay), redis.asyncio.Redis.from_url(redis_url) as client:
        scheme_and_slash = relay.url.replace("ws://", "http://") + "/"
        urls = {"DATABASE_URL": database, "REDIS_URL": redis_url}
        environ = urls | INGESTER | {"INGESTER_RELAY_HOSTS": f" {scheme_and_slash} ,"}

        async def appended() -> bool:
            return bool(await client.get(f"firehose_live:cursor:{relay.host}") == b"20")

        log = await run("firehose", "connected", environ, appended)
    assert log.count("INGESTER_LABELER_HOSTS: read as LABELS_LABELERS=wss://mod.bsky.app") == 1
    assert "INGESTER_MODE: read as ROLES=firehose,lister,backfiller,labels,indexer,identity" in log
    assert "RUST_LOG: read as LOG_LEVEL=firehose=info" in log
    assert "not among those of the settings" not in log


@pytest.mark.parametrize(
    ("role", "words"), [("indexer", "waiting for the firehose ingester"), ("identity", "ready")]
)
async def test_indexer(database: str, redis_url: str, role: str, words: str) -> None:
    urls = {"DATABASE_URL": database, "REDIS_URL": redis_url}
    log = await run(role, words, urls | INDEXER)
    for name in ("STREAMS", "GROUP", "CONSUMER", "CONCURRENCY"):
        assert log.count(f"INDEXER_{name}: without effect") == 1
    assert "INDEXER_BATCH_SIZE: at most 500 entries" in log
    assert log.count("DB_POOL_MAX_SIZE: without effect") == 1


async def test_a_whole_deployment(database: str, redis_url: str) -> None:
    environ = {
        **{
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "INGESTER_RELAY_HOSTS": "ws://[::1]:1",
        },
        **INGESTER | BACKFILLER | INDEXER,
        **{"INGESTER_LABELER_HOSTS": "ws://[::1]:1"},
        **{"ENABLE_DID_RESOLUTION": "false", "METRICS_PORT": "0", "INDEXER_PROCESSES": "1"},
    }
    up = Command("up", **environ)
    try:
        line = up.until("starting processes=")
        up.until("firehose started")
        code, _, log = up.end(signal.SIGTERM)
    finally:
        if up.process.poll() is None:
            up.process.kill()
        up.process.communicate()
    assert code == 0, log
    assert line.endswith("processes=firehose,lister/0,backfiller/0,labels,indexer/0\n")
    assert log.count("BACKFILLER_CONSUMER: without effect") == 1
    assert "BACKFILLER_MAX_RETRIES" not in log


async def test_a_role_that_the_modes_leave_out_is_run_and_named(
    database: str, redis_url: str
) -> None:
    urls = {"DATABASE_URL": database, "REDIS_URL": redis_url}
    log = await run("identity", "ready", urls | INDEXER | {"ENABLE_DID_RESOLUTION": "false"})
    assert "WARNING identity the role asked for is not among those of the settings" in log


async def test_redis_that_evicts_is_refused(database: str, own_valkey: embedded.Valkey) -> None:
    async with redis.asyncio.Redis.from_url(own_valkey.url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
    process = Command("run", "firehose", DATABASE_URL=database, REDIS_URL=own_valkey.url)
    code, _, log = await asyncio.to_thread(process.end)
    assert code == 2
    assert "allkeys-lru" in log


async def test_redis_too_small_for_the_marks_is_named_once(
    database: str, own_valkey: embedded.Valkey
) -> None:
    async with redis.asyncio.Redis.from_url(own_valkey.url) as client:
        await client.config_set("maxmemory", 100 << 20)
    log = await run("identity", "ready", {"DATABASE_URL": database, "REDIS_URL": own_valkey.url})
    assert log.count("setting INGESTER_HIGH_WATER_BYTES: ") == 1
