"""A network in one process: a recorded or generated one, served on one local port."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import uvloop

from engine.simulate.generator import generate
from engine.simulate.network import MemoryFrames, Network, load
from engine.simulate.server import Server, serve, serve_in_thread

__all__ = [
    "MemoryFrames",
    "Network",
    "Server",
    "generate",
    "load",
    "run",
    "serve",
    "serve_in_thread",
]


def run(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    rate: float = 0.0,
    oldest_seq: int = 0,
) -> int:
    """Serve a recorded network in the foreground until SIGINT or SIGTERM.

    Prints one line once it listens: the settings to start a deployment with.

    Args:
        path: a folder as described in ``engine.simulate.network``.
        host: the address to listen on.
        port: 0 takes a free one.
        rate: frames a second for each subscriber; 0 is as fast as the socket takes them.
        oldest_seq: frames before this one are no longer served.

    Returns:
        The exit code.

    Raises:
        SettingsError: no recorded network in that folder.
    """
    network = load(path)
    uvloop.run(_serve_until_signal(network, host, port, rate, oldest_seq))
    return 0


async def _serve_until_signal(
    network: Network, host: str, port: int, rate: float, oldest_seq: int
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(network, host, port, rate=rate, oldest_seq=oldest_seq) as server:
        settings = " ".join(f"{name}={value}" for name, value in server.settings.items())
        print(
            f"ready: {len(network.frames)} frames, {len(network.documents)} identities. "
            f"Use {settings}",
            flush=True,
        )
        await stop.wait()
