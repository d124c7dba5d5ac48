"""Repositories a second from a local host into the streams, by one backfiller process.

Method. Small signed repositories of 40 records are made out of a seed; a process of its own
serves them from memory, as fast as a socket takes them, so that the host is not what is measured.
Redis and Postgres are fresh, embedded and with their usual settings; every DID is in the queue and
its home remembered in Redis. No indexer runs, and the high water mark is above everything.
Wall-clock from the first entry taken until every row is written; CPU seconds of the backfiller's
own process say what it costs where the machine is shared. The client may have 50 requests at a
time at the one host, like its concurrency.

    python -m bench.backfilling [--count 5000]

prints a line of JSON for small repositories, with and without signatures, and one for large
ones, of which 50 are on their way at a time: what they need of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import redis
import uvloop

from bench.measure import machine
from engine.adapters import embedded
from engine.core import streams
from engine.ops import schema, schema_state
from engine.roles.backfiller import BackfillerRole
from engine.settings import BackfillerSettings, NetworkSettings, Settings
from engine.simulate.keys import K256, Key
from engine.simulate.repository import Repository, Write, encode, tid

RECORDS = 40

LARGE, LARGE_RECORDS = 60, 10_000
"""So many repositories of so many records, to see what 50 at a time need."""

REV_MICROS = 1_760_000_000_000_000
SHARDS = 16


def repository(number: int, records: int = RECORDS) -> Repository:
    """One account's repository."""
    secret = number.to_bytes(32, "big")
    made = Repository(f"did:plc:{number:024}", Key(K256, b"\x01" + secret[1:]))
    like = {
        "$type": "app.bsky.feed.like",
        "subject": {"uri": "at://did:plc:someoneelse/app.bsky.feed.post/3k", "cid": "bafyrei"},
        "createdAt": "2025-10-09T00:00:00.000Z",
    }
    writes = [
        Write(
            f"app.bsky.feed.like/{tid(REV_MICROS - 1000 * index - number)}",
            encode(like | {"number": index}),
        )
        for index in range(records)
    ]
    made.commit(writes, tid(REV_MICROS), 1, "2025-10-09T00:00:00.000Z")
    return made


class Host(asyncio.Protocol):
    """Answers ``getRepo`` on one connection, requests in order."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head, self._read = self._read[:end], self._read[end + 4 :]
            target = head.split(b" ", 2)[1].decode()
            did = parse_qs(urlsplit(target).query)["did"][0]
            self._transport.write(self._answers[did])


def serve(repositories: dict[str, bytes], said: Connection) -> None:
    """The host, in a process of its own, until it is ended."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.ipld.car\r\nContent-Length: %d\r\n\r\n"
    )
    answers = {did: head % len(export) + export for did, export in repositories.items()}

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: Host(answers), "127.0.0.1", 0
        )
        said.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


def work(settings: Settings, count: int, said: Connection) -> None:
    """The backfiller, in a process of its own, until everything is done."""

    async def main() -> None:
        role, stop = BackfillerRole("backfiller/0@bench", settings), asyncio.Event()
        running = asyncio.create_task(role.run(stop))
        conn = await asyncpg.connect(settings.database_url)
        began = None
        query = "SELECT count(*) FROM headrace.repo WHERE outcome = 'ok'"
        while True:
            await asyncio.sleep(0.05)
            if began is None and role._counters.read:
                began = time.perf_counter(), cpu_seconds()
            if role._counters.done >= count and await conn.fetchval(query) == count:
                break
        assert began is not None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        said.send((time.perf_counter() - began[0], cpu_seconds() - began[1], peak))
        stop.set()
        await running

    uvloop.run(main())


def cpu_seconds() -> float:
    """Of this process, its threads too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def migrate(url: str, dids: list[str]) -> None:
    """The tables, and every repository known."""
    conn = await asyncpg.connect(url)
    await schema.create(conn, "public")
    await schema_state.ensure_state(conn, "headrace", SHARDS)
    await conn.execute("INSERT INTO headrace.repo (did) SELECT unnest($1::text[])", dids)
    await conn.close()


def measure(repositories: dict[str, Repository], port: int, *, skip: bool) -> dict[str, float]:
    """Repositories a second, by the wall's clock and by CPU seconds; the most memory it held."""
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp") as folder:
        path = Path(folder)
        with (
            embedded.Postgres(path) as postgres,
            embedded.Valkey(path, persist=False) as valkey,
        ):
            asyncio.run(migrate(postgres.url, list(repositories)))
            with redis.Redis.from_url(valkey.url) as client, client.pipeline() as pipe:
                for did, made in repositories.items():
                    pipe.set(f"did:key:{did}", made.key.did_key)
                    pipe.set(f"did:pds:{did}", f"http://127.0.0.1:{port}")
                    pipe.xadd(streams.QUEUE, {streams.QUEUE_FIELD: json.dumps({"did": did})})
                pipe.execute()
            settings = Settings(
                database_url=postgres.url,
                redis_url=valkey.url,
                data_dir=folder,
                network=NetworkSettings(allow_private=True),
                backfiller=BackfillerSettings(
                    host_concurrency=50,
                    skip_signature_verification=skip,
                    firehose_stream_high_water_mark=10**9,
                    high_water_bytes=10**12,
                ),
            )
            ours, theirs = multiprocessing.Pipe()
            # Not a copy of this process, whose memory would count as the worker's.
            worker = multiprocessing.get_context("spawn").Process(
                target=work, args=(settings, len(repositories), theirs), daemon=True
            )
            worker.start()
            wall, cpu, peak = ours.recv()
            worker.join()
    count = len(repositories)
    return {
        "per_second": round(count / wall, 1),
        "per_cpu_second": round(count / cpu, 1),
        "peak_mib": round(peak),
    }


def compared(count: int, records: int, *, unsigned: bool) -> dict[str, object]:
    """With signatures, and without them if that is asked for, from a host of its own."""
    made = {each.did: each for each in (repository(n, records) for n in range(1, count + 1))}
    exports = {did: each.export() for did, each in made.items()}
    ours, theirs = multiprocessing.Pipe()
    host = multiprocessing.Process(target=serve, args=(exports, theirs), daemon=True)
    host.start()
    try:
        port = ours.recv()
        result: dict[str, object] = {
            "bench": "backfilling",
            "machine": machine(),
            "repositories": count,
            "records": records,
            "bytes": sum(map(len, exports.values())) // count,
            "with_signatures": measure(made, port, skip=False),
        }
        if unsigned:
            result["without_signatures"] = measure(made, port, skip=True)
        return result
    finally:
        host.terminate()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    count = parser.parse_args().count
    print(json.dumps(compared(count, RECORDS, unsigned=True)), flush=True)
    print(json.dumps(compared(LARGE, LARGE_RECORDS, unsigned=False)), flush=True)


if __name__ == "__main__":
    main()
