"""Live indexing beside a million identities that are due, against the same without the role.

Method. Both sides are the first part of ``bench.indexing``: a log waits in Redis, the indexers are
let go, and what counts is the time until the last op is committed. Before that a million
identities of other DIDs become due in one transaction, on both sides. *Off*: nobody looks them
up. *On*: the identity role runs as its own process (on the last core, where an indexer is too if
there are as many), asks a directory and a resolver in a further process, and is at work
before the indexers are let go. The sides alternate, off first; the ratio is of their medians, and
1 means that the role costs indexing nothing. The rest of the million stays due.

The directory makes a document for any DID, notes when it was asked, and thereby shows the rate:
the most requests of any second, and of any tenth of a second. Memory is the role's high water
mark (VmHWM), told beside that of a run with a thousand due (``few``).

Prints one line of JSON a run, and one of the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from aiohttp import web

from bench import inputs, measure
from bench.indexing import Run, age, fresh, preloaded
from engine import simulate

DUE, FEW, OPS, ROUNDS, PER_SECOND = 1_000_000, 1_000, 300_000, 3, 100.0
WINDOWS = (1.0, 0.1)

_INSERT = """
INSERT INTO headrace.identity_due (did, seq, time, forced)
SELECT 'did:plc:' || lpad(to_hex(n), 24, 'z'), n, '2026-01-01T00:00:00Z', false
FROM generate_series(1, $1::int) n
"""


class Directory:
    """A directory and a resolver of any DID, in a process of its own while it is entered."""

    def __init__(self) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)

    def __enter__(self) -> Directory:
        self._process.start()
        self._url = f"http://127.0.0.1:{self._ours.recv()}"
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()

    def environment(self, per_second: float) -> dict[str, str]:
        """Settings of an identity role that is to ask it so often."""
        return {
            "PLC_URL": self._url,
            "IDENTITY_HANDLE_RESOLVER": self._url,
            "PLC_REQUESTS_PER_SECOND": str(per_second),
            "NETWORK_ALLOW_PRIVATE": "true",
        }

    def asked(self) -> list[float]:
        """When it was asked for documents, in seconds; it answers nothing more."""
        self._ours.send(None)
        times: list[float] = self._ours.recv()
        return times


async def make_due(conn: asyncpg.Connection, count: int) -> None:
    """So many identities of other DIDs than those of the log; committed on return."""
    await conn.execute(_INSERT, count)
    await conn.execute("ANALYZE headrace.identity_due")


@dataclass
class Beside:
    """The identity role at work on what is due, and what came of it."""

    run: Run
    conn: asyncpg.Connection
    due: int
    role: bool
    per_second: float
    told: dict[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """Insert what is due; with the role, start it and wait for its first look-up."""
        await make_due(self.conn, self.due)
        if not self.role:
            yield
            return
        with Directory() as directory:
            self.run.environment |= directory.environment(self.per_second)
            process = self.run.role("identity")
            while not (before := await self._looked_up()):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            cpu = measure.Cpu({"identity": process.pid})
            yield
            looked_up = await self._looked_up() - before
            times = directory.asked()
            self.told = {
                "looked_up": looked_up,
                "asked": len(times),
                "most_a_second": most(times, WINDOWS[0]),
                "most_a_tenth": most(times, WINDOWS[1]),
                "identity_mib": measure.resident_mib(process.pid),
                "identity_cpu_seconds": cpu.used()["identity"],
            }

    async def _looked_up(self) -> int:
        count: int = await self.conn.fetchval("SELECT count(*) FROM actor WHERE handle IS NOT NULL")
        return count


def most(times: list[float], window: float) -> int:
    """The most of these within any ``window`` seconds."""
    times, first, found = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        found = max(found, last - first + 1)
    return found


def main() -> None:
    """Run the sides in turn and print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--due", type=int, default=DUE)
    parser.add_argument("--few", type=int, default=FEW)
    parser.add_argument("--ops", type=int, default=OPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--per-second", type=float, default=PER_SECOND)
    parser.add_argument("--indexers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=inputs.CACHE, help="where inputs are kept")
    args = parser.parse_args()
    network = inputs.synthetic("network", args.ops, args.seed, args.cache)
    speeds: dict[bool, list[int]] = {False: [], True: []}
    memory = Counter[str]()
    sides = [(args.few, True), *[(args.due, on) for _ in range(args.rounds) for on in speeds]]
    for number, (due, role) in enumerate(sides):
        result = asyncio.run(_measure(network, args.indexers, due, role, args.per_second))
        if number:
            speeds[role].append(result["ops_per_second"])
        if role:
            name = "many" if number else "few"
            memory[name] = max(memory[name], result["identity_mib"])
        about = {"benchmark": "identities", "due": due, "identity": role}
        print(orjson.dumps(about | {"machine": measure.machine()} | result).decode(), flush=True)
    off, on = (statistics.median(speeds[side]) for side in (False, True))
    ratio = {"benchmark": "identities", "ratio": round(on / off, 3), "identity_mib": dict(memory)}
    print(orjson.dumps(ratio).decode(), flush=True)


async def _measure(
    network: Path, indexers: int, due: int, role: bool, per_second: float
) -> dict[str, Any]:
    last = simulate.load(network).frames.last_seq
    with fresh() as run:
        conn = await asyncpg.connect(run.postgres.url)
        try:
            await age(conn)
            beside = Beside(run, await asyncpg.connect(run.postgres.url), due, role, per_second)
            result = await preloaded(run, conn, network, last, indexers, beside)
            await beside.conn.close()
        finally:
            await conn.close()
    names = ("ops", "seconds", "ops_per_second", "ops_per_batch")
    return {name: result[name] for name in names} | beside.told


def _serve(parent: Connection) -> None:
    """A directory and a resolver of any DID; says its port, then when it was asked."""
    os.nice(19)  # in place of other machines, it must not take this one's time
    asyncio.run(_answer(parent))


async def _answer(parent: Connection) -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def document(request: web.Request) -> web.Response:
        times.append(loop.time())
        did = request.match_info["did"]
        endpoint = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer"}
        return web.json_response(
            {
                "id": did,
                "alsoKnownAs": [f"at://{did.rpartition(':')[2]}.test"],
                "verificationMethod": [
                    {"id": "#atproto", "type": "Multikey", "publicKeyMultibase": "zKey"}
                ],
                "service": [endpoint | {"serviceEndpoint": "https://pds.test"}],
            }
        )

    async def resolve(request: web.Request) -> web.Response:
        name = request.query["handle"].removesuffix(".test")
        return web.json_response({"did": f"did:plc:{name}"})

    app = web.Application()
    app.router.add_get("/xrpc/com.atproto.identity.resolveHandle", resolve)
    app.router.add_get("/{did:did:plc:.+}", document)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    parent.send(runner.addresses[0][1])
    await asyncio.to_thread(parent.recv)
    parent.send(times)
    await runner.cleanup()


if __name__ == "__main__":
    main()
