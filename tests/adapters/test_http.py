"""The fetcher keeps its limits against servers that do not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from engine.adapters import http
from engine.errors import UpstreamError
from tests.fix_dns import Here

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def fetcher() -> AsyncIterator[http.Fetcher]:
    async with http.open_fetcher(allow_private=True) as made:
        yield made


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {request.query_string}", status=418)


async def test_get_returns_any_status_with_its_body(fetcher: http.Fetcher) -> None:
    async with serving(hello) as url:
        response = await fetcher.get(url + "/a", params={"q": "1 2"})
    assert (response.status, response.body) == (418, b"hello q=1 2")
    assert response.url == url + "/a"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "not an address",
    ],
)
def test_is_public_refuses_everything_inside(address: str) -> None:
    assert not http.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_is_public_allows_the_internet(address: str) -> None:
    assert http.is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "rebinding.example"]
)
async def test_guard_refuses_private_addresses_however_they_are_named(host: str) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response()

    resolver = Here() if host == "rebinding.example" else None
    async with serving(answer) as url, http.open_fetcher(resolver=resolver) as guarded:
        port = url.rpartition(":")[2]
        with pytest.raises(UpstreamError, match="not a public address"):
            await guarded.get(f"http://{host}:{port}/")
    assert not asked


async def test_redirects_are_followed_a_few_times(fetcher: http.Fetcher) -> None:
    async def answer(request: web.Request) -> web.Response:
        left = int(request.query["left"])
        if left == 0:
            return web.Response(text="end")
        return web.Response(status=302, headers={"Location": f"/x?left={left - 1}"})

    async with serving(answer) as url:
        response = await fetcher.get(f"{url}/?left={http.MAX_REDIRECTS}")
        assert response.body == b"end"
        assert response.url.endswith("/x?left=0")
        with pytest.raises(UpstreamError, match="redirects"):
            await fetcher.get(f"{url}/?left={http.MAX_REDIRECTS + 1}")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x", "http://", "http://[x"])
async def test_redirect_to_something_else_than_http_is_refused(
    fetcher: http.Fetcher, target: str
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": target})

    async with serving(answer) as url:
        with pytest.raises(UpstreamError):
            await fetcher.get(url)


async def test_guard_judges_the_target_of_a_redirect() -> None:
    checked: list[str] = []
    real = http.is_public

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/secrets"})

    def first_only(address: str) -> bool:
        checked.append(address)
        return address == "127.0.0.1" or real(address)

    async with serving(answer) as url, http.open_fetcher() as guarded:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http, "is_public", first_only)
            with pytest.raises(UpstreamError, match=r"169\.254\.169\.254 is not a public"):
                await guarded.get(url)
    assert checked == ["127.0.0.1", "169.254.169.254"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(fetcher: http.Fetcher, chunked: bool) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        if not chunked:
            response.content_length = 100 << 20
        await response.prepare(request)
        while sent < 100 << 20:
            await response.write(bytes(1 << 16))
            sent += 1 << 16
        return response

    async with serving(answer) as url:
        with pytest.raises(UpstreamError, match="an answer of"):
            await fetcher.get(url, max_bytes=100_000)
        await asyncio.sleep(0.05)
    assert sent < 20 << 20


async def test_a_slow_server_costs_the_timeout_and_no_more(fetcher: http.Fetcher) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    async with serving(answer) as url, asyncio.timeout(30):
        with pytest.raises(UpstreamError, match=r"no answer within 0\.2 s"):
            await fetcher.get(url, timeout_seconds=0.2)


async def test_a_compressed_body_is_not_unpacked(fetcher: http.Fetcher) -> None:
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Accept-Encoding"))
        return web.Response(body=b"\x1f\x8bbomb", headers={"Content-Encoding": "gzip"})

    async with serving(answer) as url:
        assert (await fetcher.get(url)).body == b"\x1f\x8bbomb"
    assert seen == ["identity"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "", "alice.example", "ftp://x", "http://a b/", "http://[::1"]
)
async def test_everything_that_cannot_be_reached_is_an_upstream_error(
    fetcher: http.Fetcher, url: str
) -> None:
    with pytest.raises(UpstreamError):
        await fetcher.get(url)
