"""A port that nobody listens on right now."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A free TCP port of 127.0.0.1, outside the range that the kernel hands out by itself soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
