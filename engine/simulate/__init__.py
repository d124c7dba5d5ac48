"""A network in one process: recorded or made out of a seed, served on one local port."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from engine.errors import SettingsError
from engine.simulate import faults
from engine.simulate.generator import Synthetic, generate
from engine.simulate.network import MemoryFrames, Network, load
from engine.simulate.server import Server, serve, serve_in_thread

__all__ = [
    "MemoryFrames",
    "Network",
    "Server",
    "Synthetic",
    "generate",
    "load",
    "run",
    "serve",
    "serve_in_thread",
]

_LEVERS = {
    "drop": "drop_every",
    "disconnect": "disconnect_every",
    "seq-restart": "restart_every",
    "lag": "lag_seconds",
}


def run(
    path: Path | None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    rate: float = 0.0,
    oldest_seq: int = 0,
    fault: Sequence[str] = (),
    seed: int = 1,
    accounts: int | None = None,
    ops: int | None = None,
    record: Path | None = None,
) -> int:
    """Serve a network in the foreground until SIGINT or SIGTERM.

    Prints one line once it listens, the settings to start a deployment with, and one at
    the end, what was made and which faults were done.

    Args:
        path: a folder as described in ``engine.simulate.network``; None makes a network.
        host: the address to listen on.
        port: 0 takes a free one.
        rate: frames a second for each subscriber; 0 is as fast as the socket takes them.
        oldest_seq: frames before this one are no longer served.
        fault: ``NAME=EVERY``, as ``engine.simulate.faults`` has them.
        seed: of the network that is made, like all that follow; see ``Synthetic``.
        accounts: how many.
        ops: None has no end.
        record: a folder to keep it in.

    Returns:
        The exit code.

    Raises:
        SettingsError: no recorded network in that folder, one in ``record``, or no such fault.
    """
    in_frames, in_serving = faults.parse(fault)
    levers: dict[str, Any] = {_LEVERS[name]: value for name, value in in_serving.items()}
    levers |= {"rate": rate, "oldest_seq": oldest_seq}
    if path is None:
        made = Synthetic(seed, accounts=accounts, ops=ops, faults=in_frames, record=record)
        with made:
            said = f"a network of {len(made.documents)} accounts, made out of seed {seed}"
            uvloop.run(_serve_until_signal(made, said, host, port, levers))
        return 0
    if in_frames or record is not None:
        raise SettingsError("a recorded network keeps its frames as they are")
    network = load(path)
    said = f"{len(network.frames)} frames, {len(network.documents)} identities"
    uvloop.run(_serve_until_signal(network, said, host, port, levers))
    return 0


async def _serve_until_signal(
    network: Network, said: str, host: str, port: int, levers: dict[str, Any]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(network, host, port, **levers) as server:
        settings = " ".join(f"{name}={value}" for name, value in server.settings.items())
        print(f"ready: {said}. Use {settings}", flush=True)
        await stop.wait()
        made = network.counts if isinstance(network, Synthetic) else {}
        counts = {**made, "sent": server.sent, **server.faults}
        print(" ".join(f"{name}={value}" for name, value in counts.items()), flush=True)
