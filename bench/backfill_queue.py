"""How fast hosts are listed, and whether those who fetch ever find the queue empty.

Method. One lister process (``headrace run lister``) with its defaults, but for the spacing of
pages where it says so, on fresh stores with fsync on.

*listing*: 40 hosts of 5,000 repositories each, served by a process of their own on loopback
addresses, and beside them the relay's list of them all; from the first host that is known until
every host is done. Pages and repositories a second; once with no pause between two pages of
a host, once with the default one. *relay_seconds*: until the relay's list is done, too, whose
pages come one after another.

*queue*: 200,000 repositories of 200 hosts in the table, never fetched. From the first look of the
feeder until the queue is at its mark: repositories a second put in. Then they are taken out at a
given rate, as backfillers do: read by the group, acknowledged and deleted in one MULTI, their rows
written. *starved* is how many of the reads, each 50 ms, got less than they asked for while
repositories were left; *lowest* the shortest length that was seen before the last were put in.

Prints one line of JSON for each.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import redis.asyncio

from bench import measure
from bench.indexing import fresh
from engine import simulate
from engine.core import listing, streams
from engine.simulate import Network
from tests.fix_lists import add, did
from tests.system.deployment import Process

HOSTS, EACH = 40, 5000
QUEUED, QUEUE_HOSTS = 200_000, 200
TICK_SECONDS = 0.05
PATIENCE_SECONDS = 300.0
KEYS = streams.Keys()

_FILL = """
INSERT INTO headrace.repo (did, host, listed_rev)
SELECT 'did:plc:' || substr(translate(md5(n::text), '01', 'gh'), 1, 24),
    'https://pds' || n % $2 || '.example', $3
FROM generate_series(1, $1::integer) AS n
"""

_FETCHED = """
UPDATE headrace.repo SET last_attempt_at = now(), fetched_at = now(), outcome = 'ok',
    backfilled_rev = listed_rev, queued_at = NULL
WHERE did = ANY($1::text[])
"""


def _serve(pipe: Connection) -> None:
    network = Network()
    for host in range(HOSTS):
        for number in range(EACH):
            add(network, f"https://p{host}.test", did(number, f"p{host}x".translate(_LETTERS)))
    by_host = {
        f"https://p{host}.test": network.repos[host * EACH : (host + 1) * EACH]
        for host in range(HOSTS)
    }
    network.listed = lambda host=None: network.repos if host is None else by_host[host]  # type: ignore[method-assign]
    with simulate.serve_in_thread(network) as server:
        pipe.send(server.settings)
        pipe.recv()


_LETTERS = str.maketrans("0123456789", "abcdefghij")


_NOBODY = {"INGESTER_RELAY_HOSTS": "ws://127.0.0.1:9", "NETWORK_ALLOW_PRIVATE": "true"}


def _lister(folder: Path, urls: Mapping[str, str], **more: str) -> Process:
    environ = {**_NOBODY, **urls, **more}
    return Process(["run", "lister", "--host", "h"], environ, folder / "lister.log")


async def _until(conn: asyncpg.Connection[Any], query: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await conn.fetchval(query):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE_SECONDS} s: {query}")
        await asyncio.sleep(measure.POLL_SECONDS)


async def _until_long(client: Any, length: int) -> None:
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if await client.xlen(KEYS.queue) >= length:
            return
        await asyncio.sleep(0.005)
    raise SystemExit(f"the queue is shorter than {length}")


async def list_hosts(spacing_ms: int) -> dict[str, Any]:
    """All hosts from nothing to done."""
    here, there = multiprocessing.Pipe()
    serving = multiprocessing.Process(target=_serve, args=(there,), daemon=True)
    serving.start()
    settings = here.recv()
    try:
        with fresh() as stores:
            urls = {**stores.environment, **settings}
            conn = await asyncpg.connect(stores.postgres.url)
            with _lister(stores.folder, urls, LISTER_SPACING_MS=str(spacing_ms)) as run:
                cpu = measure.Cpu({"lister": run.pid})
                query = "SELECT count(*) > 1 FROM headrace.host"
                await _until(conn, query)
                began = time.monotonic()
                query = "SELECT count(done_at) = count(*) FROM headrace.host"
                await _until(conn, f"{query} WHERE NOT relay")
                seconds = time.monotonic() - began
                await _until(conn, query)
                with_relay = time.monotonic() - began
                used = cpu.used()["lister"]
            rows = await conn.fetchval("SELECT count(*) FROM headrace.repo")
            await conn.close()
    finally:
        here.send(None)
        serving.join(10)
    pages = HOSTS * EACH // 1000
    return {
        "bench": "listing",
        "spacing_ms": spacing_ms,
        "repositories": rows,
        "seconds": round(seconds, 2),
        "pages_a_second": round(pages / seconds, 1),
        "listed_a_second": round(rows / seconds),
        "relay_seconds": round(with_relay, 2),
        "cpu_seconds": used,
    }


async def drain(rate: int) -> dict[str, Any]:
    """The queue filled, and taken out at ``rate`` repositories a second."""
    with fresh() as stores:
        conn = await asyncpg.connect(stores.postgres.url)
        await conn.execute("SET synchronous_commit = off")
        client = redis.asyncio.Redis.from_url(stores.valkey.url)
        await conn.execute(_FILL, QUEUED, QUEUE_HOSTS, listing.tid_at(1_750_000_000))
        await conn.execute("ANALYZE headrace.repo")
        with _lister(stores.folder, stores.environment) as run:
            await _until_long(client, 1)
            began = time.monotonic()
            await _until_long(client, 50_000)
            filled = 50_000 / (time.monotonic() - began)
            cpu = measure.Cpu({"lister": run.pid})
            found = await _take(conn, client, rate)
            used = cpu.used()["lister"]
        await client.aclose()
        await conn.close()
    return {
        "bench": "queue",
        "rate": rate,
        "put_in_a_second": round(filled),
        **found,
        "cpu_seconds": used,
    }


async def _take(conn: asyncpg.Connection[Any], client: Any, rate: int) -> dict[str, Any]:
    began, taken, starved, lowest = time.monotonic(), 0, 0, 50_000
    while taken < QUEUED:
        due = min(QUEUED - taken, int((time.monotonic() - began) * rate) - taken)
        if due < 1:
            await asyncio.sleep(TICK_SECONDS)
            continue
        if QUEUED - taken > 50_000:
            lowest = min(lowest, await client.xlen(KEYS.queue))
        read = await client.xreadgroup(
            streams.QUEUE_GROUP, "bench", {KEYS.queue: ">"}, count=min(due, 1000)
        )
        entries = read[0][1] if read else []
        starved += len(entries) < min(due, 1000)
        if entries:
            dids = [orjson.loads(fields[b"repo"])["did"] for _, fields in entries]
            ids = [name for name, _ in entries]
            async with client.pipeline(transaction=True) as pipe:
                pipe.xack(KEYS.queue, streams.QUEUE_GROUP, *ids)
                pipe.xdel(KEYS.queue, *ids)
                await pipe.execute()
            await conn.execute(_FETCHED, dids)
            taken += len(dids)
        else:
            await asyncio.sleep(TICK_SECONDS)
    seconds = time.monotonic() - began
    return {
        "taken_a_second": round(taken / seconds),
        "starved": starved,
        "lowest": lowest,
        "seconds": round(seconds, 1),
    }


async def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, action="append", help="repositories a second")
    arguments = parser.parse_args()
    for spacing in (0, 100):
        await _report(list_hosts, spacing)
    for rate in arguments.rate or [1000, 2000]:
        await _report(drain, rate)


async def _report(run: Any, argument: int) -> None:
    load = os.getloadavg()[0]
    found = await run(argument)
    machine = {"machine": os.uname().nodename, "load_before": round(load, 2)}
    print(orjson.dumps(found | machine).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
