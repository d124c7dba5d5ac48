"""Reading what processes cost, and how a run comes along."""

from __future__ import annotations

import asyncio
import os
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import orjson
import redis

from engine.core import streams
from tests.system.deployment import descendants

POLL_SECONDS = 0.02

STALLED_SECONDS = 120.0
"""Without one more committed op, a run is given up."""

_TICKS = os.sysconf("SC_CLK_TCK")

# Every op ends in one of the counts that stand beside a relay's seq.
_PROGRESS = """
SELECT p.moved_at, sum(o.value::bigint)::bigint AS ops
FROM headrace.position p, jsonb_each(p.relays) r, jsonb_each_text(r.value) o
WHERE p.source = 'firehose_live' AND o.key <> 'seq'
GROUP BY p.shard, p.moved_at
"""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of those below it, and of those of them that ended."""
    ticks = 0
    for each in {pid, *descendants(pid)}:
        try:
            text = Path(f"/proc/{each}/stat").read_text()
        except OSError:  # it just ended
            continue
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / _TICKS


def resident_mib(pid: int) -> float:
    """The highest resident memory that a process ever had."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmHWM:\s+(\d+) kB", text)
    return round(int(match.group(1)) / 1024, 1) if match else 0.0


class Cpu:
    """CPU time that processes used, by name, from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = self._now()

    def used(self) -> dict[str, float]:
        """Seconds since the start; ask before they end."""
        now = self._now()
        return {name: round(now[name] - self._before[name], 2) for name in now}

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


@dataclass
class Progress:
    """Committed ops over time, as another connection saw them."""

    seconds: list[float] = field(default_factory=list)
    ops: list[int] = field(default_factory=list)

    def add(self, seconds: float, ops: int) -> None:
        """Note so many ops, if they are more than before."""
        if not self.ops or ops > self.ops[-1]:
            self.seconds.append(seconds)
            self.ops.append(ops)

    def tenths(self) -> dict[str, float]:
        """How fast a tenth of all ops came after the first commit, and at the end."""
        total, begun = self.ops[-1], self.ops[1]
        first = self._rate(begun, begun + total / 10)
        last = self._rate(total * 0.9, total)
        return {
            "first_tenth_ops_per_second": round(first),
            "last_tenth_ops_per_second": round(last),
            "last_to_first_tenth": round(last / first, 3) if first else 0.0,
        }

    def _rate(self, first: float, last: float) -> float:
        """Ops a second between the commits that reached two numbers of ops."""
        begin, end = (min(bisect_left(self.ops, at), len(self.ops) - 1) for at in (first, last))
        seconds = self.seconds[end] - self.seconds[begin]
        return (self.ops[end] - self.ops[begin]) / seconds if seconds else 0.0


async def committed(conn: asyncpg.Connection) -> int:
    """Ops that are committed now."""
    return sum(row["ops"] for row in await conn.fetch(_PROGRESS))


async def watch(
    conn: asyncpg.Connection, wanted: Callable[[], int | None], started: float
) -> Progress:
    """Poll until all ops that are wanted (None: not known yet) are committed.

    Times are since ``started``, a reading of ``time.monotonic``.
    """
    progress = Progress([0.0], [0])
    moved = time.monotonic()
    while (whole := wanted()) is None or progress.ops[-1] < whole:
        await asyncio.sleep(POLL_SECONDS)
        seen = await committed(conn)
        now = time.monotonic()
        if seen > progress.ops[-1]:
            moved = now
        elif now - moved > STALLED_SECONDS:
            raise SystemExit(f"stopped at {seen} of {whole} ops")
        progress.add(now - started, seen)
    return progress


def heartbeats(redis_url: str, role: str) -> dict[str, dict[str, object]]:
    """What the processes of a role last told, by name."""
    prefix = streams.Keys().process(role)
    found = {}
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{prefix}*"):
            if isinstance(told := client.get(key), bytes):
                found[key.decode().removeprefix(streams.Keys().process(""))] = orjson.loads(told)
    return found


def stages(beats: Iterable[Mapping[str, object]]) -> dict[str, float]:
    """Seconds of each stage, summed over processes."""
    total: dict[str, float] = {}
    for beat in beats:
        told = beat.get("seconds")
        for name, seconds in (told if isinstance(told, dict) else {}).items():
            total[name] = round(total.get(name, 0.0) + seconds, 3)
    return total


def machine() -> dict[str, object]:
    """What all numbers of this run are of."""
    match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": match.group(1) if match else "unknown",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }
