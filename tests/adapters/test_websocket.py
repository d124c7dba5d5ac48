from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from engine.adapters import websocket
from engine.adapters.websocket import End, Subscription, SubscriptionEnded, subscribe
from tests import fix_relay
from tests.fix_relay import Relay

MIB = 1 << 20


@contextlib.asynccontextmanager
async def subscribed(
    relay: Relay, *, silence: float = 5, buffer_bytes: int = MIB
) -> AsyncIterator[Subscription]:
    url = f"{relay.url}{fix_relay.PATH}?cursor=0"
    async with subscribe(url, silence_timeout=silence, buffer_bytes=buffer_bytes) as subscription:
        yield subscription


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with fix_relay.running(Relay()) as relay:
        yield relay


async def take(subscription: Subscription, count: int) -> list[bytes]:
    """Exactly so many frames."""
    frames: list[bytes] = []
    while len(frames) < count:
        frames += await subscription.take(count - len(frames), MIB)
    return frames


async def ended(subscription: Subscription) -> End:
    try:
        while True:
            await subscription.take(100, MIB)
    except SubscriptionEnded as error:
        return error.end


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_frames_arrive_whole_and_in_order(relay: Relay) -> None:
    relay.fill(3000)
    async with subscribed(relay) as subscription:
        assert await take(subscription, 3000) == [data for _, data in relay.log]


async def test_take_respects_both_limits_and_always_gives_one_frame(relay: Relay) -> None:
    relay.scripts.append(fix_relay.first(b"a" * 100, b"b" * 100, b"c" * 100, b"d"))
    async with subscribed(relay) as subscription:
        assert await subscription.take(10, 1) == [b"a" * 100]
        await until(lambda: subscription.waiting_bytes == 201)
        assert await subscription.take(10, 200) == [b"b" * 100, b"c" * 100]
        assert subscription.take_waiting(10, 200) == [b"d"]
        assert subscription.take_waiting(10, 200) == []


async def test_fragmented_message_is_joined_with_control_frames_between(relay: Relay) -> None:
    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        assert ws._writer is not None
        send = ws._writer.send_frame
        parts = [b"one ", b"two ", b"three"]
        # aiohttp sets FIN on every frame it writes, so these are written by hand.
        write = ws._writer.transport.write
        for number, part in enumerate(parts):
            opcode = (0 if number else 2) | (0x80 if number == 2 else 0)
            write(bytes((opcode, len(part))) + part)
            if number == 0:
                await send(b"ping", WSMsgType.PING)
        await ws.send_bytes(b"next")

    relay.scripts.append(script)
    async with subscribed(relay) as subscription:
        assert await take(subscription, 2) == [b"one two three", b"next"]


async def test_text_frames_are_counted_and_not_passed_on(relay: Relay) -> None:
    relay.scripts.append(fix_relay.first("hello", b"data", "there", b"more"))
    async with subscribed(relay) as subscription:
        assert await take(subscription, 2) == [b"data", b"more"]
        assert subscription.text_frames == 2


async def test_full_buffer_stops_the_socket_and_the_sender(relay: Relay) -> None:
    relay.scripts.append(fix_relay.first(*([b"x" * 10_000] * 5_000)))  # 50 MB
    async with subscribed(relay, buffer_bytes=MIB) as subscription:
        await until(lambda: subscription.is_paused)
        before = -1
        while before != relay.sent:  # until the kernel's buffers are full too
            before = relay.sent
            await asyncio.sleep(0.2)
        assert relay.sent < 5_000
        assert subscription.waiting_bytes < 3 * MIB
        assert len(await take(subscription, 5_000)) == 5_000
        assert relay.sent == 5_000
        assert subscription.pauses > 1


async def test_paused_subscription_is_not_silent(relay: Relay) -> None:
    relay.scripts.append(fix_relay.first(*([b"x" * 10_000] * 500)))
    async with subscribed(relay, buffer_bytes=MIB, silence=0.3) as subscription:
        await until(lambda: subscription.is_paused)
        await asyncio.sleep(0.8)
        assert len(await take(subscription, 500)) == 500


async def test_silence_of_data_ends_even_while_the_relay_pings(relay: Relay) -> None:
    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        await ws.send_bytes(b"last")
        while True:
            await ws.ping()
            await ws.send_str("still here")
            await asyncio.sleep(0.05)

    relay.scripts.append(script)
    async with subscribed(relay, silence=0.4) as subscription:
        assert await take(subscription, 1) == [b"last"]
        async with asyncio.timeout(30):
            assert await ended(subscription) == End.SILENT


async def test_close_is_reported_after_every_frame_was_taken(relay: Relay) -> None:
    relay.fill(50)
    relay.scripts.append(fix_relay.close_after(50))
    async with subscribed(relay) as subscription:
        await until(lambda: subscription._ended is not None)
        assert len(await take(subscription, 50)) == 50
        with pytest.raises(SubscriptionEnded, match=r"1012.*restarting") as caught:
            await subscription.take(1, 1)
        assert caught.value.end == End.CLOSED


async def test_broken_connection_is_lost(relay: Relay) -> None:
    relay.fill(5)
    relay.scripts.append(fix_relay.close_after(5, abruptly=True))
    async with subscribed(relay) as subscription:
        assert await ended(subscription) == End.LOST


async def test_message_above_the_limit_ends_with_its_own_reason(relay: Relay) -> None:
    relay.scripts.append(fix_relay.first(b"x" * (websocket.MAX_MESSAGE_BYTES + 1)))
    async with subscribed(relay, buffer_bytes=64 * MIB) as subscription:
        assert await ended(subscription) == End.TOO_BIG


async def test_a_close_that_crosses_ours_does_not_hide_its_reason() -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
        assert key is not None
        guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key[1] + guid).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        size = websocket.MAX_MESSAGE_BYTES + 1
        writer.write(b"\x82\x7f" + size.to_bytes(8, "big") + bytes(size) + b"\x88\x02\x03\xe8")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with subscribe(url, silence_timeout=30, buffer_bytes=MIB) as subscription:
            assert await ended(subscription) == End.TOO_BIG


async def test_fragments_above_the_limit_end_with_their_own_reason(relay: Relay) -> None:
    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        assert ws._writer is not None
        write = ws._writer.transport.write
        part = b"\x7f" + (MIB).to_bytes(8, "big") + bytes(MIB)
        write(b"\x02" + part)
        for _ in range(17):
            write(b"\x00" + part)
        await asyncio.sleep(5)

    relay.scripts.append(script)
    async with subscribed(relay, buffer_bytes=64 * MIB) as subscription:
        assert await ended(subscription) == End.TOO_BIG


async def test_what_is_no_websocket_frame_is_a_protocol_end(relay: Relay) -> None:
    async def script(relay: Relay, ws: web.WebSocketResponse, cursor: int | None) -> None:
        assert ws._writer is not None
        ws._writer.transport.write(b"\x00\x01x")
        await asyncio.sleep(5)

    relay.scripts.append(script)
    async with subscribed(relay) as subscription:
        assert await ended(subscription) == End.PROTOCOL


async def test_wrong_path_is_refused(relay: Relay) -> None:
    with pytest.raises(SubscriptionEnded) as caught:
        async with subscribe(f"{relay.url}/nowhere", silence_timeout=1, buffer_bytes=1):
            pass
    assert (caught.value.end, caught.value.detail) == (End.REFUSED, "HTTP 404")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/x", "ws://does-not-exist.invalid/x"])
async def test_absent_relay_is_a_connect_end(url: str) -> None:
    with pytest.raises(SubscriptionEnded) as caught:
        async with subscribe(url, silence_timeout=1, buffer_bytes=1):
            pass
    assert caught.value.end == End.CONNECT


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", str(cert)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not on PATH")
    return key, cert


@contextlib.asynccontextmanager
async def tls_relay(certificate: tuple[Path, Path]) -> AsyncIterator[tuple[Relay, int]]:
    key, cert = certificate
    relay = Relay()
    app = web.Application()
    app.router.add_get(fix_relay.PATH, relay.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield relay, runner.addresses[0][1]
    await runner.cleanup()


async def test_tls_carries_frames_and_backpressure(certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[1]))
    async with tls_relay(certificate) as (relay, port):
        relay.scripts.append(fix_relay.first(*([b"x" * 10_000] * 3_000)))
        url = f"wss://localhost:{port}{fix_relay.PATH}"
        async with subscribe(
            url, silence_timeout=5, buffer_bytes=MIB, tls=trusting
        ) as subscription:
            await until(lambda: subscription.is_paused)
            await asyncio.sleep(0.3)
            assert relay.sent < 3_000
            assert len(await take(subscription, 3_000)) == 3_000


async def test_tls_refuses_a_certificate_nobody_vouches_for(
    certificate: tuple[Path, Path],
) -> None:
    async with tls_relay(certificate) as (_, port):
        url = f"wss://localhost:{port}{fix_relay.PATH}"
        with pytest.raises(SubscriptionEnded, match="certificate") as caught:
            async with subscribe(url, silence_timeout=5, buffer_bytes=MIB):
                pass
        assert caught.value.end == End.CONNECT


async def test_tls_refuses_a_certificate_of_another_host(certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[1]))
    async with tls_relay(certificate) as (_, port):
        url = f"wss://127.0.0.1:{port}{fix_relay.PATH}"
        with pytest.raises(SubscriptionEnded, match="IP address mismatch") as caught:
            async with subscribe(url, silence_timeout=5, buffer_bytes=MIB, tls=trusting):
                pass
        assert caught.value.end == End.CONNECT
