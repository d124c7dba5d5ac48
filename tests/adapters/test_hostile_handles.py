"""Handles whose names, name servers or web servers are hostile: bounded, and told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import dns.asyncresolver
import dns.nameserver
import dns.rcode
import pytest

from engine.adapters import handles, http
from engine.adapters.handles import Answer
from engine.core import identity
from tests.fix_dns import Here, NameServer, serve_names

ALICE = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
TIMEOUT = 0.5
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    async with serve_names() as running:
        yield running


@asynccontextmanager
async def web(serve: Serve, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """A web server that does as it likes; its port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def resolving(
    names: NameServer, port: int = 1, *, allow_private: bool = True, seconds: float = TIMEOUT
) -> AsyncIterator[handles.NetworkHandleResolver]:
    asking = dns.asyncresolver.Resolver(configure=False)
    asking.nameservers = [dns.nameserver.Do53Nameserver("127.0.0.1", names.port)]
    async with http.open_fetcher(allow_private=allow_private, resolver=Here()) as fetcher:
        yield handles.NetworkHandleResolver(
            fetcher,
            seconds,
            resolver=asking,
            well_known=f"http://{{handle}}:{port}/.well-known/atproto-did",
        )


def answering(head: bytes, body: bytes = b"") -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + head + b"\r\nConnection: close\r\n\r\n" + body)

    return serve


async def test_upper_case_finds_what_lower_case_would(names: NameServer) -> None:
    names.table["_atproto.alice.test"] = [f"did={ALICE}"]
    async with resolving(names) as resolver:
        assert await resolver.resolve("ALICE.Test") == Answer(ALICE)


@pytest.mark.parametrize(
    "handle",
    [
        *("ålice.test", "例え.テスト", "alice。test", "ａlice.test"),  # noqa: RUF001
        *("alice..test", ".alice.test", "alice.test.", "alice.test/../x", "alice.test:8080"),
        *(
            "alice@test",
            "alice test",
            "alice.test\r\nHost: x",
            "alice\0.test",
            "",
            "a" * 64 + ".test",
        ),
        "a." * 5_000 + "test",
    ],
)
async def test_what_is_no_host_name_is_nobodys_and_costs_no_question(
    names: NameServer, handle: str
) -> None:
    async with resolving(names) as resolver, http.open_fetcher(allow_private=True) as fetcher:
        assert await resolver.resolve(handle) == Answer(None)
        service = handles.XrpcHandleResolver(fetcher, "http://127.0.0.1:1", TIMEOUT)
        assert await service.resolve(handle) == Answer(None)
    assert names.asked == []


async def test_an_international_name_is_asked_for_in_its_ascii_form(names: NameServer) -> None:
    names.table["_atproto.xn--lice-toa.test"] = [f"did={ALICE}"]
    async with resolving(names) as resolver:
        assert await resolver.resolve("xn--lice-toa.test") == Answer(ALICE)


async def test_text_records_of_ten_kilobytes_are_read_over_tcp(names: NameServer) -> None:
    names.table["_atproto.long.test"] = ["x" * 10_000, f"did={ALICE}"]
    names.table["_atproto.longer.test"] = ["did=did:plc:" + "a" * 10_000]
    names.table["_atproto.many.test"] = [f"did={ALICE}{n}" for n in range(400)]
    async with resolving(names) as resolver:
        assert await resolver.resolve("long.test") == Answer(ALICE)
        assert names.by_tcp == 1
        longer = await resolver.resolve("longer.test")
        assert len(longer.did or "") > 10_000  # of whom, the caller compares
        assert (await resolver.resolve("many.test")).did is None
    assert names.by_tcp == 3


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, None])
async def test_a_name_server_in_trouble_is_asked_again_later(
    names: NameServer, rcode: dns.rcode.Rcode | None
) -> None:
    names.otherwise = None if rcode is None else int(rcode)
    async with (
        web(answering(b"404 Not Found")) as port,
        resolving(names, port) as resolver,
        asyncio.timeout(60),
    ):
        answer = await resolver.resolve("alice.test")
    assert answer.did is None
    assert "DNS" in (answer.failure or "")


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000:
        writer.write(bytes([byte]))
        await asyncio.sleep(TIMEOUT / 20)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"d")
        await writer.drain()
        await asyncio.sleep(TIMEOUT / 20)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (drip_head, "no answer within"),
        (drip_body, "no answer within"),
        (say_nothing, "no answer within"),
        (flood, "more than 16384 bytes"),
        (answering(b"200 OK\r\nContent-Length: 99999999"), "99999999 bytes"),
        (answering(b"302 Found\r\nLocation: /.well-known/atproto-did"), "more than 5 redirects"),
        (answering(b"302 Found\r\nLocation: file:///etc/passwd"), "not an http address"),
        (answering(b"503 Unavailable"), "HTTP 503"),
        (answering(b"\xff\xff\xff"), "alice.test"),
    ],
)
async def test_a_web_server_that_misbehaves_is_bounded_and_named(
    names: NameServer, serve: Serve, words: str
) -> None:
    # Only who does not answer shall meet the timeout, however slow this machine is.
    seconds = TIMEOUT if words == "no answer within" else 20.0
    async with (
        web(serve) as port,
        resolving(names, port, seconds=seconds) as resolver,
        asyncio.timeout(60),
    ):
        answer = await resolver.resolve("alice.test")
    assert answer.did is None
    assert words in (answer.failure or "")


async def test_a_handle_at_a_private_address_is_refused(names: NameServer) -> None:
    async with (
        web(answering(b"200 OK", ALICE.encode())) as port,
        resolving(names, port, allow_private=False) as resolver,
    ):
        answer = await resolver.resolve("alice.test")
    assert answer.did is None
    assert "not a public address" in (answer.failure or "")


async def test_a_redirect_to_a_private_address_is_refused(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 stands for an address of the internet, 127.0.0.2 for one of ours."""
    monkeypatch.setattr(http, "is_public", lambda address: address == "127.0.0.1")
    asked = []

    async def inside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + ALICE.encode())

    async with web(inside, "127.0.0.2") as within:
        location = f"302 Found\r\nLocation: http://127.0.0.2:{within}/secret".encode()
        async with (
            web(answering(location)) as port,
            resolving(names, port, allow_private=False) as resolver,
        ):
            answer = await resolver.resolve("alice.test")
    assert answer.did is None
    assert "127.0.0.2 is not a public address" in (answer.failure or "")
    assert asked == []


def test_a_well_known_answer_is_its_first_line() -> None:
    assert identity.did_of_well_known(b"<html>" + b"x" * 10_000) is None
    assert identity.did_of_well_known(f" {ALICE} \n<html>".encode()) == ALICE
