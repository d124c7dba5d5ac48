"""Where one indexer's time goes on preloaded streams, on both sides of its connection.

Part (i) of ``bench.indexing`` with one indexer, the database counting each statement
(``pg_stat_statements``) and ``perf``, where it is there and may (root), sampling all processes.
Prints the stages, the statements by total time, the busiest functions of the indexer and of its
backend, and the statements of the plain COPY of the same rows. In the folder lies ``perf.data``.
Counting and sampling cost a little: no number from here is a result.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from bench import inputs, measure, plain_copy
from bench.indexing import Run, fresh, pid_of, preloaded
from engine import simulate

_STATEMENTS = """
SELECT round(total_exec_time) AS ms, round(total_plan_time) AS plan_ms, calls, rows,
    shared_blks_hit + shared_blks_read AS blocks, wal_bytes / 1024 AS wal_kib,
    regexp_replace(query, '\\s+', ' ', 'g') AS text
FROM pg_stat_statements ORDER BY total_exec_time + total_plan_time DESC LIMIT 45
"""


def main() -> None:
    """Run it and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="for what perf recorded")
    parser.add_argument("--mix", choices=[*inputs.MIXES], default="network")
    parser.add_argument("--ops", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=inputs.CACHE, help="where inputs are kept")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    network = inputs.synthetic(args.mix, args.ops, args.seed, args.cache)
    counting = {
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.track_planning": "on",
    }
    with fresh(**counting) as run:
        asyncio.run(_profile(run, network, args.folder))


async def _profile(run: Run, network: Path, folder: Path) -> None:
    conn = await asyncpg.connect(run.postgres.url)
    await conn.execute("CREATE EXTENSION pg_stat_statements")

    @asynccontextmanager
    async def sampled() -> AsyncIterator[None]:
        backend = await conn.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'headrace indexer/0%'"
        )
        told = measure.heartbeats(run.valkey.url, "indexer")
        (indexer,) = (beat["pid"] for beat in told.values())
        await conn.execute("SELECT pg_stat_statements_reset()")
        pids.update(indexer=indexer, backend=backend)
        with _recording(folder / "perf.data"):
            yield

    pids: dict[str, object] = {}
    log = simulate.load(network)
    order, last = inputs.order_of(log), log.frames.last_seq
    result = await preloaded(run, conn, network, last, 1, sampled)
    seconds = sorted(result["stage_seconds"].items(), key=lambda item: -item[1])
    print(f"{result['ops']} ops in {result['seconds']} s, CPU {result['cpu_seconds']}")
    print("stages:", ", ".join(f"{name} {value:.2f}" for name, value in seconds))
    await _print_statements(conn)
    for name, pid in pids.items():
        _report(folder / "perf.data", name, pid)
    rows = await plain_copy.gathered(run.postgres.url, order)
    await conn.execute("SELECT pg_stat_statements_reset()")
    copied = await plain_copy.copied(run.postgres.url, pid_of(run.postgres), rows, 1)
    print(f"the plain COPY of the same rows: {copied.seconds:.3f} s, CPU {copied.cpu}")
    await _print_statements(conn)
    await conn.close()


async def _print_statements(conn: asyncpg.Connection) -> None:
    print("    ms  plan   calls     rows    blocks  wal_kib  statement")
    for ms, plan, calls, rows, blocks, wal, text in await conn.fetch(_STATEMENTS):
        print(f"{ms:6} {plan:5} {calls:7} {rows:8} {blocks:9} {wal:8.0f}  {text[:110]}")


@contextmanager
def _recording(path: Path) -> Iterator[None]:
    """Sample all processes: threads that begin later would be missed otherwise."""
    if shutil.which("perf") is None:
        yield
        return
    command = ["perf", "record", "-q", "-a", "-e", "cpu-clock", "-F", "199", "-g", "-o", str(path)]
    perf = subprocess.Popen(command)
    try:
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait()


def _report(path: Path, name: str, pid: object) -> None:
    if not path.exists():
        return
    command = ["perf", "report", "--no-children", "-g", "none", "--stdio", "-i", str(path)]
    command += ["--pid", str(pid), "--sort", "symbol,dso", "--percentage", "relative"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = [line.rstrip(" -") for line in said.splitlines() if line.strip() and line[0] != "#"]
    print(f"{name}, process {pid}:", *lines[:40], sep="\n")


if __name__ == "__main__":
    main()
