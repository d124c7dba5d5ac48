"""What a host may do to whoever asks it for a repository: each by name, on command.

A misdeed gets the request and the true export, and answers in the host's stead.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

Misdeed = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]

PIECE = b"\0" * 65536


def refusing(status: int, headers: dict[str, str] | None = None, error: str = "") -> Misdeed:
    """Answer with a status, headers and the name of an XRPC error."""
    body = orjson.dumps({"error": error, "message": "as the test asked"}) if error else b"no"

    async def refuse(request: web.Request, true: bytes) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return refuse


def giving(change: Callable[[bytes], bytes]) -> Misdeed:
    """Answer with something made of the true export."""

    async def give(request: web.Request, true: bytes) -> web.StreamResponse:
        return web.Response(body=change(true), content_type="application/vnd.ipld.car")

    return give


def redirecting(where: str) -> Misdeed:
    """Answer with the address of another server."""

    async def redirect(request: web.Request, true: bytes) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": where})

    return redirect


def times(count: int, misdeed: Misdeed) -> Misdeed:
    """A misdeed that ends after so many requests; then the truth is told."""
    left = count

    async def do(request: web.Request, true: bytes) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return await (misdeed if left >= 0 else giving(bytes))(request, true)

    return do


async def endless(request: web.Request, true: bytes) -> web.StreamResponse:
    """A body without an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(PIECE)


async def trickle(request: web.Request, true: bytes) -> web.StreamResponse:
    """A byte now and then, for ever."""
    response = web.StreamResponse()
    await response.prepare(request)
    for byte in true * 1000:
        await response.write(bytes((byte,)))
        await asyncio.sleep(0.05)
    return response


async def silent(request: web.Request, true: bytes) -> web.StreamResponse:
    """No answer."""
    await asyncio.sleep(3600)
    return web.Response()


async def hang_up(request: web.Request, true: bytes) -> web.StreamResponse:
    """The connection ends in the middle of the body that was announced."""
    response = web.StreamResponse(headers={"Content-Length": str(len(true))})
    await response.prepare(request)
    await response.write(true[: len(true) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


async def bomb(request: web.Request, true: bytes) -> web.StreamResponse:
    """A small packed body of a hundred megabytes."""
    return web.Response(
        body=gzip.compress(bytes(100_000_000), 9), headers={"Content-Encoding": "gzip"}
    )


def cut_at_block(true: bytes) -> bytes:
    """The export without its last block: a CAR that reads well."""
    at, last = 0, 0
    while at < len(true):
        last = at
        size = shift = 0
        while True:
            byte = true[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        at += size
    return true[:last]


def flipped(true: bytes) -> bytes:
    """One bit of the last block is another."""
    return true[:-1] + bytes((true[-1] ^ 1,))


MISDEEDS: dict[str, Misdeed] = {
    "truncated": giving(lambda true: true[: len(true) * 2 // 3]),
    "cut-at-block": giving(cut_at_block),
    "flipped": giving(flipped),
    "nothing": giving(lambda true: b""),
    "html": giving(lambda true: b"<html>welcome</html>"),
    "endless": endless,
    "trickle": trickle,
    "silent": silent,
    "hang-up": hang_up,
    "bomb": bomb,
    "too-many": refusing(429),
    "too-many-retry": refusing(429, {"Retry-After": "1"}),
    "internal": refusing(500),
    "gateway": refusing(502),
    "private": redirecting("http://169.254.169.254/latest/meta-data"),
}
"""By the names that tests and people use."""
