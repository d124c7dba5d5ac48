"""The whole engine: frames to Redis, frames to rows, memory; as ratios to plain COPY.

Method, decided before the first run:

- Everything real and on one machine: the relay (``headrace simulate``, a process of its own),
  Valkey and Postgres from wheels (fsync on), ``headrace up`` on fresh tables.
- Input: the project's own generated network (``--ops``, seeded) or a recorded one (``--network``).
- *frames to Redis*: only the firehose role runs. From its first received frame to its last, by
  polling ``/status`` each 20 ms; high water marks are above the input.
- *frames to rows*: all roles. From the first received frame to ``indexed_seq`` = last seq.
- *plain COPY*: the final rows of every table that the run filled, binary, into the same empty,
  indexed tables, in slices of 5,000 rows, with one connection for each indexer of the run. The
  ratio is its time over the run's time: 1.0 would mean that the run cost nothing but the rows.
- Resident memory is the highest seen of each process while polling.
- The simulator and both servers share the cores with the engine; nothing is subtracted.
- Numbers of different machines or runs do not compare; the ratio inside one run does.

Prints one JSON document. Release builds only (``make setup``).
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
from pathlib import Path
from typing import Any

import asyncpg
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import simulate
from engine.adapters import embedded
from tests.system.deployment import Deployment

SLICE_ROWS = 5000
TABLES = (
    *("actor", "actor_block", "actor_sync", "feed_generator", "follow", "labeler", "like", "list"),
    *("list_block", "list_item", "post", "post_embed_external", "post_embed_gallery_image"),
    *("post_embed_image", "post_embed_record", "post_embed_video", "post_gate", "profile"),
    *("record", "repost", "starter_pack", "thread_gate", "verification"),
)


def main() -> None:
    """Run the parts and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", type=Path, help="a recorded network; else one is generated")
    parser.add_argument("--ops", type=int, default=100_000)
    parser.add_argument("--indexers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp") as name:
        folder = Path(name)
        network = args.network or generate(folder / "network", args.ops, args.seed)
        result = measure(folder, network, args.indexers)
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())


def generate(folder: Path, ops: int, seed: int) -> Path:
    """A network of the project's own."""
    command = [sys.executable, "-m", "engine", "generate", str(folder)]
    subprocess.run([*command, "--ops", str(ops), "--seed", str(seed)], check=True, stdout=2)
    return folder


def measure(folder: Path, network: Path, indexers: int) -> dict[str, Any]:
    """Both parts, each on fresh stores."""
    frames = simulate.load(network).frames
    last, count = frames.last_seq, len(frames)
    to_redis = run_part(folder / "a", network, last, indexers, ["--roles", "firehose"])
    to_rows = run_part(folder / "b", network, last, indexers, [])
    return {
        "machine": {"cores": os.cpu_count(), "cpu": cpu_name()},
        "frames": count,
        "indexers": indexers,
        "frames_to_redis": {**to_redis, "frames_per_second": round(count / to_redis["seconds"])},
        "frames_to_rows": to_rows,
    }


def run_part(
    folder: Path, network: Path, last: int, indexers: int, arguments: list[str]
) -> dict[str, Any]:
    """One deployment from empty stores until it has all; what it took."""
    folder.mkdir(mode=0o700)
    with embedded.Postgres(folder) as postgres, embedded.Valkey(folder, persist=False) as valkey:
        environment = {**os.environ, "DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
        create = [sys.executable, "-m", "engine", "schema", "create"]
        subprocess.run(create, env=environment, check=True, stdout=2)
        relay, settings = start_relay(network)
        try:
            run = Deployment(
                settings,
                postgres.url,
                valkey.url,
                indexers=indexers,
                log=folder / "up.log",
                arguments=arguments,
                extra={
                    "INGESTER_HIGH_WATER_MARK": "100000000",
                    "INGESTER_HIGH_WATER_BYTES": str(8 << 30),
                    "LOG_LEVEL": "warning",
                },
            )
            with run:
                result = watch(run, last, "received_seq" if arguments else "indexed_seq")
        finally:
            relay.terminate()
            relay.wait()
        if not arguments:
            result |= asyncio.run(plain_copy(postgres.url, indexers, result["seconds"]))
        return result


def start_relay(network: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """The simulator in its own process, and the settings it prints."""
    relay = subprocess.Popen(
        [sys.executable, "-m", "engine", "simulate", str(network), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None
    line = relay.stdout.readline()
    settings = dict(re.findall(r"([A-Z_]+)=(\S+)", line))
    if "INGESTER_RELAY_HOSTS" not in settings:
        raise SystemExit(f"the simulator said {line!r}")
    return relay, settings


def watch(run: Deployment, last: int, what: str) -> dict[str, Any]:
    """Poll until the relay's ``what`` is the last seq."""
    started = None
    rss: dict[str, float] = {}
    stages: dict[str, dict[str, float]] = {}
    while True:
        status = run.status()
        for name, process in status.get("processes", {}).items():
            rss[name] = max(rss.get(name, 0.0), resident_mib(process.get("pid")))
            if process.get("seconds"):
                stages[name] = process["seconds"]
        for relay in status.get("relays", {}).values():
            received, reached = relay.get("received_seq") or 0, relay.get(what) or 0
            if received and started is None:
                started = time.monotonic()
            if reached >= last and started is not None:
                seconds = time.monotonic() - started
                return {"seconds": round(seconds, 3), "rss_mib": rss, "stage_seconds": stages}
        time.sleep(0.02)


async def plain_copy(url: str, connections: int, seconds: float) -> dict[str, Any]:
    """Copy the run's final rows into empty tables; the ratio of both times."""
    conn = await asyncpg.connect(url)
    ops = await conn.fetchval(
        "SELECT sum(o.value::bigint) FROM headrace.position p, jsonb_each(p.relays) r,"
        " jsonb_each_text(r.value) o WHERE o.key <> 'seq'"
    )
    slices: list[tuple[str, list[str], bytes]] = []
    rows = 0
    for table in TABLES:
        names = await written_columns(conn, table)
        count = await conn.fetchval(f'SELECT count(*) FROM "{table}"')
        rows += count
        for offset in range(0, count, SLICE_ROWS):
            payload = await exported(conn, table, names, offset)
            slices.append((table, names, payload))
    await conn.execute("TRUNCATE " + ", ".join(f'"{table}"' for table in TABLES))
    await conn.execute("CHECKPOINT")
    writers = [
        await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
        for _ in range(connections)
    ]

    async def write(index: int) -> None:
        for table, names, payload in slices[index::connections]:

            async def source(payload: bytes = payload) -> Any:
                yield payload

            await writers[index].copy_to_table(
                table, source=source(), columns=names, format="binary"
            )

    started = time.monotonic()
    await asyncio.gather(*(write(index) for index in range(connections)))
    copy_seconds = time.monotonic() - started
    for connection in (*writers, conn):
        await connection.close()
    return {
        "ops": int(ops),
        "rows": rows,
        "ops_per_second": round(int(ops) / seconds),
        "plain_copy_seconds": round(copy_seconds, 3),
        "ratio_to_plain_copy": round(copy_seconds / seconds, 3),
    }


async def written_columns(conn: asyncpg.Connection, table: str) -> list[str]:
    """The columns of a table that COPY may name."""
    rows = await conn.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position",
        table,
    )
    return [row["column_name"] for row in rows]


async def exported(conn: asyncpg.Connection, table: str, names: list[str], offset: int) -> bytes:
    """One slice of a table in the order in which it was written."""
    out = bytearray()

    async def collect(data: bytes) -> None:
        out.extend(data)

    listed = ", ".join(f'"{name}"' for name in names)
    await conn.copy_from_query(
        f'SELECT {listed} FROM "{table}" ORDER BY ctid LIMIT {SLICE_ROWS} OFFSET {offset}',
        output=collect,
        format="binary",
    )
    return bytes(out)


def resident_mib(pid: int | None) -> float:
    """Resident memory of a process now."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    return round(int(match.group(1)) / 1024, 1) if match else 0.0


def cpu_name() -> str:
    """The processor as the kernel calls it."""
    match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return match.group(1) if match else "unknown"


if __name__ == "__main__":
    main()
