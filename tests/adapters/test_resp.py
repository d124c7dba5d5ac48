from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from engine.adapters import resp
from engine.errors import SettingsError, StoreUnavailable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server of one's own making, as a Redis URL."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.close()
        await server.wait_closed()
        if handling:
            _, left = await asyncio.wait(handling, timeout=5)
            assert not left


@pytest.fixture
async def conn(redis_url: str) -> AsyncIterator[resp.RespConnection]:
    conn = await resp.RespConnection.open(redis_url)
    yield conn
    conn.close()
    await conn.wait_closed()


@pytest.mark.services
async def test_command_returns_plain_values(conn: resp.RespConnection) -> None:
    assert await conn.command("SET", "k", b"\x00\xff") == b"OK"
    assert await conn.command("GET", "k") == b"\x00\xff"
    assert await conn.command("INCRBY", "n", 41) == 41
    assert await conn.command("GET", "absent") is None


@pytest.mark.services
async def test_requests_are_answered_in_the_order_of_their_calls(
    conn: resp.RespConnection,
) -> None:
    calls = [conn.execute(resp.pack("ECHO", i) + resp.pack("ECHO", -i), 2) for i in range(500)]
    answers = await asyncio.gather(*calls)
    assert answers == [[b"%d" % i, b"%d" % -i] for i in range(500)]


@pytest.mark.services
async def test_errors_inside_exec_are_values_beside_the_other_results(
    conn: resp.RespConnection,
) -> None:
    payload = [
        resp.pack("MULTI"),
        resp.pack("SET", "text", "x"),
        resp.pack("INCR", "text"),
        resp.pack("XADD", "absent", "NOMKSTREAM", "*", "event", "e"),
        resp.pack("EXEC"),
    ]
    replies = await conn.execute(payload, len(payload))
    ok, wrong, absent = replies[-1]
    assert ok == b"OK"
    assert isinstance(wrong, resp.ReplyError)
    assert wrong.code == "ERR"
    assert absent is None


@pytest.mark.services
async def test_command_raises_an_error_reply_and_stays_usable(conn: resp.RespConnection) -> None:
    with pytest.raises(resp.ReplyError, match="unknown command"):
        await conn.command("NOSUCHCOMMAND")
    assert await conn.command("PING") == b"PONG"


@pytest.mark.services
async def test_blocking_read_returns_what_another_connection_appends(
    conn: resp.RespConnection, redis_url: str
) -> None:
    reader = await resp.RespConnection.open(redis_url)
    waiting = asyncio.create_task(
        reader.command("XREAD", "BLOCK", 5000, "STREAMS", "blocked", "0-0")
    )
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await conn.command("XADD", "blocked", "*", "event", "e")
    ((name, entries),) = await waiting
    assert (name, len(entries)) == (b"blocked", 1)
    reader.close()
    await reader.wait_closed()


@pytest.mark.services
async def test_cancelled_request_does_not_shift_the_replies_of_others(
    conn: resp.RespConnection,
) -> None:
    first = asyncio.create_task(conn.execute(resp.pack("ECHO", "first"), 1))
    second = asyncio.create_task(conn.execute(resp.pack("ECHO", "second"), 1))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == [b"second"]
    assert await conn.command("ECHO", "third") == b"third"


@pytest.mark.services
async def test_large_payload_and_reply_pass(conn: resp.RespConnection) -> None:
    value = bytes(range(256)) * 32768  # 8 MiB
    await conn.command("SET", "large", value)
    assert await conn.command("GET", "large") == value


@pytest.mark.services
async def test_closed_connection_refuses_and_fails_what_is_outstanding(redis_url: str) -> None:
    conn = await resp.RespConnection.open(redis_url)
    waiting = asyncio.create_task(conn.command("XREAD", "BLOCK", 0, "STREAMS", "never", "$"))
    await asyncio.sleep(0.05)
    conn.close()
    with pytest.raises(StoreUnavailable):
        await waiting
    with pytest.raises(StoreUnavailable):
        await conn.command("PING")
    assert not conn.is_open


async def test_lost_connection_fails_everything_outstanding() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await reader.readuntil(b"LAST\r\n")
        writer.write(b"+one\r\n")
        await writer.drain()

    async with serving(handler) as url:
        conn = await resp.RespConnection.open(url)
        calls = [conn.execute(resp.pack("GET", word), 1) for word in ("a", "b", "LAST")]
        one, *lost = await asyncio.gather(*calls, return_exceptions=True)
        assert one == [b"one"]
        assert all(isinstance(error, StoreUnavailable) for error in lost)
        assert len(set(map(id, lost))) == 2


async def test_server_that_never_answers_is_given_up() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await reader.read()

    async with serving(handler) as url:
        conn = await resp.RespConnection.open(url)
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await conn.execute(resp.pack("GET", "k"), 1, timeout_seconds=0.1)
        assert not conn.is_open


@pytest.mark.parametrize("bytes_", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+PONG\r\n+MORE\r\n"])
async def test_what_is_not_resp_ends_the_connection(bytes_: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(bytes_)
        await reader.read()

    async with serving(handler) as url:
        with pytest.raises(StoreUnavailable):
            await (await resp.RespConnection.open(url)).command("GET", "k")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("-LOADING Redis is loading the dataset in memory", StoreUnavailable),
        ("-NOAUTH Authentication required.", SettingsError),
        ("-WRONGPASS invalid username-password pair or user is disabled.", SettingsError),
        ("-ERR AUTH <password> called without any password configured", SettingsError),
    ],
)
async def test_refusal_at_the_greeting_says_what_to_do(answer: str, error: type[Exception]) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(f"{answer}\r\n{answer}\r\n".encode())
        await reader.read()

    async with serving(handler) as url:
        with pytest.raises(error) as caught:
            await resp.RespConnection.open(url.replace("redis://", "redis://:secret@"))
        assert "secret" not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)


async def test_absent_server_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        await resp.RespConnection.open("redis://127.0.0.1:1")


async def test_url_that_is_not_redis_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL"):
        await resp.RespConnection.open("http://localhost")
