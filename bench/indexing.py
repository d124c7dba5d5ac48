"""Streams to rows, and frames to rows, as ratios to a plain COPY of the same rows.

Everything is real and on one machine: the relay (``headrace simulate``), Valkey and Postgres from
wheels (fsync on), one ``headrace run ROLE`` a process, pinned as ``headrace up`` pins them; each
part on fresh stores. Input: a synthetic network (``bench.inputs``).

*preloaded* (i): the firehose role fills the streams with the whole log and ends, and with it the
relay. The indexers start, claim their shards and wait, because the mark of the epoch was put
aside; it is put back, and from there until everything received is committed the time counts.
*frames* (ii): relay, firehose role and indexers at once, from the first frame in Redis until
everything received is committed. The CPU time of the relay stands beside.

Progress is what a connection of its own sees committed each 20 ms. ``ratio`` is the time that the
plain COPY of the final rows took (``bench.plain_copy``) over the time of the run; 1.0 would
mean that the run cost nothing but the writing of its rows. Nothing is subtracted.

Prints one line of JSON for each mix, part and number of indexers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import redis

from bench import inputs, measure, plain_copy
from engine import simulate
from engine.adapters import embedded
from engine.core import streams
from tests.system.deployment import Process

PARTS = ("preloaded", "frames")
PRELOAD_SECONDS = 300.0
HOST = "bench"

SERVER = {
    "shared_buffers": "2GB",
    "wal_buffers": "64MB",
    "min_wal_size": "4GB",
    "max_wal_size": "16GB",
}
"""A database server as operators have it: what is written to all the time is in its memory."""

WAL_SEGMENTS = 128
"""Of 16 MiB, made before anything is timed: a server that has run for a while uses them again."""

FILLER_PAGES = 250_000
"""Of 8 KiB, written and thrown away before anything is timed. The kernel clears memory when it is
first touched; without this the run, which is first, pays for all of the server's buffers and
files, and the plain COPY, which follows it, for none."""


@dataclass
class Run:
    """Fresh stores, and what is started on them."""

    folder: Path
    postgres: embedded.Postgres
    valkey: embedded.Valkey
    client: redis.Redis
    stack: ExitStack
    environment: dict[str, str]

    def role(self, role: str, slot: int = 0) -> Process:
        """Start one process, pinned to a core as the plan of ``headrace up`` has it."""
        cores = sorted(os.sched_getaffinity(0))
        core = cores[slot % len(cores)] if role == "indexer" else cores[-1]
        words = ["run", role, "--slot", str(slot), "--host", HOST, "--core", str(core)]
        process = Process(words, self.environment, self.folder / f"{role}{slot}.log")
        return self.stack.enter_context(process)

    def relay(self, network: Path) -> subprocess.Popen[str]:
        """Start the simulator; later processes are pointed at it."""
        relay, settings = self.stack.enter_context(served(network))
        self.environment |= settings
        return relay

    def cursor(self) -> int:
        """The seq up to which frames are in Redis."""
        value = self.client.get(streams.Keys().cursor(streams.LIVE, self._relay))
        return int(value) if isinstance(value, bytes) else 0

    def received(self) -> int:
        """Ops that are in Redis, and those that were left out on the way there."""
        counts: Any = self.client.hgetall(streams.Keys().received(streams.LIVE, self._relay))
        return sum(map(int, counts.values()))

    def until(self, what: str, condition: Any, seconds: float = PRELOAD_SECONDS) -> None:
        """Poll closely."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"{what}: not within {seconds} s; see {self.folder}")
            time.sleep(0.005)

    @property
    def _relay(self) -> str:
        return self.environment["INGESTER_RELAY_HOSTS"]


def main() -> None:
    """Run the parts that are asked for and print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mix", choices=[*inputs.MIXES], nargs="*", default=[*inputs.MIXES])
    parser.add_argument("--part", choices=PARTS, nargs="*", default=[*PARTS])
    parser.add_argument("--indexers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--ops", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=inputs.CACHE, help="where inputs are kept")
    args = parser.parse_args()
    for mix in args.mix:
        network = inputs.synthetic(mix, args.ops, args.seed, args.cache)
        order = inputs.order_of(simulate.load(network))
        for part in args.part:
            for indexers in args.indexers:
                about = {"benchmark": part, "mix": mix, "indexers": indexers}
                about |= {"machine": measure.machine()}
                result = asyncio.run(_measure(part, network, order, indexers))
                print(orjson.dumps(about | result).decode(), flush=True)


async def _measure(part: str, network: Path, order: inputs.Order, indexers: int) -> dict[str, Any]:
    last = simulate.load(network).frames.last_seq
    with fresh() as run:
        conn = await asyncpg.connect(run.postgres.url)
        try:
            await age(conn)
            measured = preloaded if part == "preloaded" else _frames
            result = await measured(run, conn, network, last, indexers)
        finally:
            await conn.close()
        rows = await plain_copy.gathered(run.postgres.url, order)
        copied = await plain_copy.copied(run.postgres.url, pid_of(run.postgres), rows, indexers)
    return result | {
        "ratio": round(copied.seconds / result["seconds"], 3),
        "plain_copy": {
            "seconds": round(copied.seconds, 3),
            "rows": sum(rows.tables.values()),
            "rows_not_in_the_log": rows.unplaced,
            "mib": round(copied.bytes / (1 << 20), 1),
            "ops_per_second": round(result["ops"] / copied.seconds),
            "cpu_seconds": copied.cpu,
            **copied.progress.tenths(),
        },
    }


async def age(conn: asyncpg.Connection) -> None:
    """Make of a new server one that has run for a while; `begin` must follow."""
    for _ in range(WAL_SEGMENTS):
        await conn.execute("SELECT pg_logical_emit_message(false, '', '')")
        await conn.execute("SELECT pg_switch_wal()")
    await conn.execute(
        "CREATE SCHEMA filler; CREATE UNLOGGED TABLE filler.page (text text STORAGE PLAIN)"
    )
    await conn.execute(
        "INSERT INTO filler.page SELECT repeat('x', 8000) FROM generate_series(1, $1)", FILLER_PAGES
    )


async def begin(conn: asyncpg.Connection) -> None:
    """Bring the server to where the plain COPY begins, too: room just freed, nothing to flush."""
    await conn.execute("DROP SCHEMA IF EXISTS filler CASCADE")
    await conn.execute("CHECKPOINT")


async def preloaded(
    run: Run,
    conn: asyncpg.Connection,
    network: Path,
    last: int,
    indexers: int,
    beside: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
) -> dict[str, Any]:
    """Part (i). What is ``beside`` is there from when the indexers are ready until the end."""
    with ExitStack() as preload:
        run.stack, outer = preload, run.stack
        run.relay(network)
        run.role("firehose")
        run.until("the first frame", lambda: run.cursor() > 0)
        begun = time.monotonic()
        run.until("all frames in Redis", lambda: run.cursor() >= last)
        to_redis = time.monotonic() - begun
        run.stack = outer
    received = run.received()
    mark, aside = streams.Keys().epoch, "bench:epoch"
    run.client.rename(mark, aside)
    processes = await start_indexers(run, conn, indexers)
    await_waiting(run, indexers)
    await begin(conn)
    async with beside():
        cpu = measure.Cpu(processes | servers(run))
        started_at = time.monotonic()
        run.client.rename(aside, mark)
        progress = await measure.watch(conn, lambda: received, started_at)
    return await _told(run, progress, cpu) | {"preload_seconds": round(to_redis, 3)}


async def _frames(
    run: Run, conn: asyncpg.Connection, network: Path, last: int, indexers: int
) -> dict[str, Any]:
    """Part (ii)."""
    relay = run.relay(network)
    processes = await start_indexers(run, conn, indexers)
    await_waiting(run, indexers)
    await begin(conn)
    processes |= {"firehose": run.role("firehose").pid, "simulator": relay.pid}
    cpu = measure.Cpu(processes | servers(run))
    run.until("the first frame", lambda: run.cursor() > 0)
    started_at = time.monotonic()

    def wanted() -> int | None:
        return run.received() if run.cursor() >= last else None

    return await _told(run, await measure.watch(conn, wanted, started_at), cpu)


async def start_indexers(run: Run, conn: asyncpg.Connection, count: int) -> dict[str, int]:
    """Start them; each knows of all others, so that none claims what it must hand over."""
    names = [f"indexer/{slot}@{HOST}" for slot in range(count)]
    await conn.executemany(
        "INSERT INTO headrace.indexer (name) VALUES ($1)", [(name,) for name in names]
    )
    return {name: run.role("indexer", slot).pid for slot, name in enumerate(names)}


def await_waiting(run: Run, indexers: int) -> None:
    """Until so many wait for their streams."""

    def are_waiting() -> bool:
        beats = measure.heartbeats(run.valkey.url, "indexer").values()
        return sum(beat.get("state") == "waiting for streams" for beat in beats) == indexers

    run.until("all indexers ready", are_waiting)


def servers(run: Run) -> dict[str, int]:
    """Their pids."""
    return {"postgres": pid_of(run.postgres), "valkey": pid_of(run.valkey)}


async def _told(run: Run, progress: measure.Progress, cpu: measure.Cpu) -> dict[str, Any]:
    """What a run was, once everything is committed."""
    seconds, ops = progress.seconds[-1], progress.ops[-1]
    result = await told(run, cpu)
    batches = result["batches"]
    return {
        "ops": ops,
        "seconds": round(seconds, 3),
        "ops_per_second": round(ops / seconds),
        **progress.tenths(),
        "ops_per_batch": round(ops / batches) if batches else 0,
        **result,
    }


async def told(run: Run, cpu: measure.Cpu) -> dict[str, Any]:
    """What it cost, by the processes' own words."""
    used = cpu.used()
    await asyncio.sleep(1.5)  # for the heartbeats to tell it all
    beats = measure.heartbeats(run.valkey.url, "indexer")
    counters = [beat.get("counters") for beat in beats.values()]
    batches = sum(told["batches"] for told in counters if isinstance(told, dict))
    return {
        "batches": batches,
        "stage_seconds": measure.stages(beats.values()),
        "cpu_seconds": used,
        "rss_mib": {
            name: measure.resident_mib(beat["pid"])
            for name, beat in beats.items()
            if isinstance(beat["pid"], int)
        },
    }


@contextmanager
def fresh(**settings: str) -> Iterator[Run]:
    """Stores with empty tables, and no process yet; ``settings`` of Postgres go before SERVER."""
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="hr-bench-", dir="/tmp"))
        )
        postgres = stack.enter_context(embedded.Postgres(folder, settings=SERVER | settings))
        valkey = stack.enter_context(
            embedded.Valkey(folder, persist=False, max_memory_bytes=8 << 30)
        )
        environment = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "DATA_DIR": str(folder / "data"),
            "INGESTER_HIGH_WATER_MARK": "100000000",
            "INGESTER_HIGH_WATER_BYTES": str(8 << 30),
            "LOG_LEVEL": "warning",
        }
        create = [sys.executable, "-m", "engine", "schema", "create"]
        subprocess.run(create, env={**os.environ, **environment}, check=True, stdout=2)
        client = stack.enter_context(redis.Redis.from_url(valkey.url))
        inner = stack.enter_context(ExitStack())
        yield Run(folder, postgres, valkey, client, inner, environment)


@contextmanager
def served(
    network: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The simulator in its own process, and the settings it prints."""
    command = [sys.executable, "-m", "engine", "simulate", str(network), "--port", "0"]
    relay = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert relay.stdout is not None
        line = relay.stdout.readline()
        settings = dict(re.findall(r"([A-Z_]+)=(\S+)", line))
        if "INGESTER_RELAY_HOSTS" not in settings:
            raise SystemExit(f"the simulator said {line!r}")
        yield relay, settings
    finally:
        relay.terminate()
        relay.wait()


def pid_of(server: embedded.Server) -> int:
    """Of a server that runs."""
    assert server.process is not None
    return server.process.pid


if __name__ == "__main__":
    main()
