"""From a frame's send to its row, as another connection of Postgres sees it.

Method. A whole deployment (``headrace up``: every role, one indexer a core, fsync on) is fed by a
relay in a process of its own, which notes the time before it hands each frame to its socket.
A connection that has nothing to do with the engine asks in a tight loop which of the
records sent and not yet seen are in the table ``record``; a row's time is when that answer came, so
the time between two questions is part of the result (it is printed). Clocks are one:
``CLOCK_MONOTONIC``. What counts is the first record that a
commit creates, where it is indexed and not deleted again in the input.

First a part of the log is sent at full speed and waited for, so that tables, caches and plans are
warm. *paced*: 500 frames a second. *idle*: one frame at a time, after a random pause in which
everything comes to rest. With ``--due`` both once for each number: so many identities of other DIDs
are due from the start, and there is a directory and a resolver of any DID to ask.

Prints one line of JSON for each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import random
import statistics
import time
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from pathlib import Path
from typing import Any

import asyncpg
import libipld
import orjson

from bench import inputs, measure
from bench.identities import PER_SECOND, Directory, make_due
from bench.indexing import fresh
from engine import simulate
from engine.simulate.network import Frames
from tests.system.deployment import Deployment

WARM_FRAMES, PACED_SECONDS, RATE, SINGLE_FRAMES = 8000, 20, 500.0, 200
PAUSE_SECONDS = (0.1, 0.3)
MISSING_SECONDS = 5.0
"""Rows that are not there so long after the last frame or row are counted as missing."""

START_SECONDS = 120.0
"""So long the deployment may take to the first row."""

POLL_PAUSE_SECONDS = 0.0003
OPS = 60_000
CARRIED = ("app.bsky.", "chat.bsky.")


@dataclass
class Sent:
    """Send times by a frame's place in the log, shared with the relay's process."""

    at: SynchronizedArray[float]
    count: Synchronized[int]


@dataclass
class Seen:
    """What the poller found."""

    seconds: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    between_polls: list[float] = field(default_factory=list)


def main() -> None:
    """Run both and print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=inputs.CACHE, help="where inputs are kept")
    parser.add_argument("--due", type=int, nargs="*", default=[0], help="identities that are due")
    args = parser.parse_args()
    folder = inputs.synthetic("network", OPS, args.seed, args.cache)
    for due in args.due:
        about = {"identities_due": due, "machine": measure.machine()}
        for line in _deployed(folder, due):
            print(orjson.dumps(line | about).decode(), flush=True)


def _deployed(folder: Path, due: int) -> list[dict[str, Any]]:
    """What a fresh deployment took."""
    frames = simulate.load(folder).frames
    uris = rows_of(frames)
    context = multiprocessing.get_context("spawn")
    sent = Sent(context.Array("d", len(frames)), context.Value("q", 0))
    ours, theirs = context.Pipe()
    relay = context.Process(target=_relay, args=(theirs, folder, sent), daemon=True)
    relay.start()
    with fresh() as run, Directory() as directory:
        identities = directory.environment(PER_SECOND) if due else {}
        deployment = Deployment(
            ours.recv(),
            run.postgres.url,
            run.valkey.url,
            indexers=os.cpu_count() or 1,
            log=run.folder / "up.log",
            extra={"LOG_LEVEL": "warning"} | identities,
        )
        with deployment:
            lines = asyncio.run(_measure(run.postgres.url, ours, sent, uris, due))
    ours.send(None)
    relay.join()
    return lines


async def _measure(
    url: str, relay: Connection, sent: Sent, uris: dict[int, str], due: int
) -> list[dict[str, Any]]:
    conn = await asyncpg.connect(url, server_settings={"enable_seqscan": "off"})
    await make_due(conn, due)
    phases = (
        ("warm", WARM_FRAMES, 0.0),
        ("paced", int(PACED_SECONDS * RATE), RATE),
        ("idle", SINGLE_FRAMES, -1.0),
    )
    lines, first = [], 0
    for name, count, rate in phases:
        relay.send((first, count, rate))
        wanted = {place: uris[place] for place in range(first, first + count) if place in uris}
        seen = await _poll(conn, sent, wanted, first + count)
        relay.recv()
        if name != "warm":
            lines.append({"benchmark": "latency", "load": name, "frames": count} | told(seen))
        first += count
    await conn.close()
    return lines


async def _poll(conn: asyncpg.Connection, sent: Sent, wanted: dict[int, str], end: int) -> Seen:
    """Wait for the rows of all frames before ``end``; ``wanted`` is by place, in order."""
    statement = await conn.prepare("SELECT uri FROM record WHERE uri = ANY($1::text[])")
    seen = Seen()
    places = iter(wanted.items())
    upcoming = next(places, None)
    waiting: dict[str, float] = {}
    last = asked = time.monotonic()
    while upcoming is not None or waiting:
        while upcoming is not None and upcoming[0] < sent.count.value:
            waiting[upcoming[1]] = sent.at[upcoming[0]]
            upcoming = next(places, None)
        if waiting:
            rows = await statement.fetch(list(waiting))
            now = time.monotonic()
            seen.between_polls.append(now - asked)
            for row in rows:
                seen.seconds.append(now - waiting.pop(row["uri"]))
            last = now if rows else last
        asked = time.monotonic()
        if sent.count.value < end:
            last = asked
        elif asked - last > (MISSING_SECONDS if seen.seconds else START_SECONDS):
            break
        await asyncio.sleep(POLL_PAUSE_SECONDS)
    seen.missing = list(waiting)
    return seen


def told(seen: Seen) -> dict[str, Any]:
    """Percentiles in milliseconds."""
    if len(seen.seconds) < 2:
        raise SystemExit(f"{len(seen.seconds)} rows were seen, {len(seen.missing)} not")
    cuts = statistics.quantiles(seen.seconds, n=100, method="inclusive")
    polls = statistics.quantiles(seen.between_polls, n=100, method="inclusive")
    return {
        "rows": len(seen.seconds),
        "rows_missing": len(seen.missing),
        "p50_ms": round(cuts[49] * 1000, 2),
        "p90_ms": round(cuts[89] * 1000, 2),
        "p99_ms": round(cuts[98] * 1000, 2),
        "max_ms": round(max(seen.seconds) * 1000, 2),
        "between_polls_p50_ms": round(polls[49] * 1000, 2),
        "between_polls_p99_ms": round(polls[98] * 1000, 2),
    }


def rows_of(frames: Frames) -> dict[int, str]:
    """By a frame's place in the log, the uri of a record that it brings to stay."""
    uris: dict[int, str] = {}
    gone: set[str] = set()
    for place in range(len(frames)):
        try:
            body = libipld.decode_dag_cbor_multi(frames[place])[1]
            ops = body.get("ops", ())
        except Exception:  # part of the input: libipld has no common base class
            continue
        for op in reversed(ops):
            uri = f"at://{body['repo']}/{op['path']}"
            if op["action"] == "delete":
                gone.add(uri)
            elif op["action"] == "create" and op["path"].startswith(CARRIED):
                uris[place] = uri
    return {place: uri for place, uri in uris.items() if uri not in gone}


def _relay(commands: Connection, folder: Path, sent: Sent) -> None:
    """The relay's process: publish so many frames when told, at the pace that is told."""
    network = simulate.load(folder)
    frames = network.frames
    dice = random.Random(1)
    with simulate.serve_in_thread(replace(network, frames=simulate.MemoryFrames())) as server:
        commands.send(server.settings)
        with contextlib.suppress(EOFError):
            while (command := commands.recv()) is not None:
                first, count, rate = command
                due = time.monotonic()
                for place in range(first, first + count):
                    frame = frames[place]
                    if rate < 0:
                        time.sleep(dice.uniform(*PAUSE_SECONDS))
                    elif rate > 0:
                        due += 1 / rate
                        time.sleep(max(0.0, due - time.monotonic()))
                    sent.at[place] = time.monotonic()
                    sent.count.value = place + 1
                    server.publish(frame)
                commands.send("sent")


if __name__ == "__main__":
    main()
