"""Repositories to rows: records a second into Postgres, as a ratio to a plain COPY of their rows.

The repositories that a synthetic network (``bench.inputs``) comes to at its end, as files.
``headrace load`` proves them and fills the backfill streams; it is timed by itself. The indexers
start, claim their shards and wait, because the mark of the epoch was put aside; it is put back, and
from there until every entry is committed the time counts. ``ratio`` is the time that the plain COPY
of the final rows took (``bench.plain_copy``), in the order in which the engine wrote them, over
that.

    python -m bench.backfill_rows [--mix network] [--indexers 1]

prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from bench import inputs, measure, plain_copy
from bench.indexing import (
    Run,
    age,
    await_waiting,
    begin,
    fresh,
    pid_of,
    servers,
    start_indexers,
    told,
)
from engine.core import streams

UNBOUNDED = {
    "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": "100000000",
    "BACKFILLER_HIGH_WATER_BYTES": str(8 << 30),
}

_WRITTEN = "SELECT coalesce(sum(entries), 0) FROM headrace.position WHERE source = $1"

# Rows lie in a table in the order in which they came.
_ORDER = "SELECT uri, did FROM record ORDER BY ctid"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mix", choices=[*inputs.MIXES], default="network")
    parser.add_argument("--indexers", type=int, default=1)
    parser.add_argument("--ops", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=inputs.CACHE, help="where inputs are kept")
    args = parser.parse_args()
    network = inputs.synthetic(args.mix, args.ops, args.seed, args.cache, cars=True)
    about = {"benchmark": "backfill", "mix": args.mix, "indexers": args.indexers}
    about |= {"machine": measure.machine()}
    result = asyncio.run(_measure(network, args.indexers))
    print(orjson.dumps(about | result).decode(), flush=True)


async def _measure(network: Path, indexers: int) -> dict[str, Any]:
    with fresh() as run:
        conn = await asyncpg.connect(run.postgres.url)
        try:
            await age(conn)
            result = await _backfilled(run, conn, network, indexers)
            records = await conn.fetch(_ORDER)
        finally:
            await conn.close()
        uris = {row["uri"]: number for number, row in enumerate(records)}
        dids: dict[str, int] = {}
        for number, row in enumerate(records):
            dids.setdefault(row["did"], number)
        order = inputs.Order(uris, dids, len(records))
        rows = await plain_copy.gathered(run.postgres.url, order)
        copied = await plain_copy.copied(run.postgres.url, pid_of(run.postgres), rows, indexers)
    return result | {
        "records": len(records),
        "records_per_second": round(len(records) / result["seconds"]),
        "ratio": round(copied.seconds / result["seconds"], 3),
        "plain_copy": {
            "seconds": round(copied.seconds, 3),
            "rows": sum(rows.tables.values()),
            "cpu_seconds": copied.cpu,
        },
    }


async def _backfilled(
    run: Run, conn: asyncpg.Connection, network: Path, indexers: int
) -> dict[str, Any]:
    relay = run.relay(network)
    load = [sys.executable, "-m", "engine", "load", str(network / "cars")]
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *load, env={**os.environ, **run.environment, **UNBOUNDED}, stdout=2
    )
    if await process.wait():
        raise SystemExit("loading failed")
    loading = time.monotonic() - begun
    relay.terminate()
    keys = streams.Keys()
    shards = await conn.fetchval("SELECT shard_count FROM headrace.deployment")
    entries = sum(
        int(str(run.client.xlen(keys.stream(streams.BACKFILL, each)))) for each in range(shards)
    )
    mark, aside = keys.epoch, "bench:epoch"
    run.client.rename(mark, aside)
    processes = await start_indexers(run, conn, indexers)
    await_waiting(run, indexers)
    await begin(conn)
    cpu = measure.Cpu(processes | servers(run))
    started = time.monotonic()
    run.client.rename(aside, mark)
    while await conn.fetchval(_WRITTEN, streams.BACKFILL) < entries:
        await asyncio.sleep(measure.POLL_SECONDS)
        if time.monotonic() - started > measure.STALLED_SECONDS * 5:
            raise SystemExit("the indexers do not come to an end")
    seconds = time.monotonic() - started
    return {
        "entries": entries,
        "load_seconds": round(loading, 3),
        "seconds": round(seconds, 3),
        **await told(run, cpu),
    }


if __name__ == "__main__":
    main()
