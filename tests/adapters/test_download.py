"""Large answers: in memory or in files, within limits, against servers that keep none."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from engine.adapters import http
from engine.adapters.spool import Spool
from engine.errors import UpstreamError
from tests.adapters.test_http import Handler, serving

LIMIT = 1 << 20


@pytest.fixture
async def fetcher() -> AsyncIterator[http.Fetcher]:
    async with http.open_fetcher(allow_private=True) as made:
        yield made


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", body_bytes=100_000, all_bytes=150_000)


def sending(*pieces: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    """A server that sends these pieces, without saying before how much."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return handler


async def get(
    fetcher: http.Fetcher, url: str, spool: Spool, seconds: float = 20.0
) -> http.Download:
    return await fetcher.download(url, spool=spool, max_bytes=LIMIT, timeout_seconds=seconds)


def files(spool: Spool) -> list[Path]:
    return list(spool._folder.glob("*"))


async def test_a_small_body_stays_in_memory(fetcher: http.Fetcher, spool: Spool) -> None:
    async with serving(sending(b"abc" * 1000, b"d", headers={"RateLimit-Reset": "5"})) as url:
        answer = await get(fetcher, url, spool)
    assert (answer.status, answer.headers["ratelimit-reset"]) == (200, "5")
    assert answer.body.data == b"abc" * 1000 + b"d"
    assert spool.in_memory == answer.body.size == 3001
    answer.body.close()
    answer.body.close()
    assert spool.in_memory == 0


async def test_a_large_body_goes_to_a_file_that_goes_with_it(
    fetcher: http.Fetcher, spool: Spool
) -> None:
    sent = [bytes([number]) * 50_000 for number in range(10)]
    async with serving(sending(*sent)) as url:
        answer = await get(fetcher, url, spool)
    assert answer.body.data is None
    assert answer.body.path is not None
    assert answer.body.path.read_bytes() == b"".join(sent)
    assert spool.in_memory == 0
    answer.body.close()
    assert files(spool) == []


async def test_what_all_bodies_hold_in_memory_is_bounded(
    fetcher: http.Fetcher, spool: Spool
) -> None:
    async with serving(sending(b"x" * 60_000)) as url:
        answers = [await get(fetcher, url, spool) for _ in range(4)]
    assert spool.in_memory <= spool.all_bytes
    assert [answer.body.path is None for answer in answers] == [True, True, False, False]
    for answer in answers:
        answer.body.close()
    assert (spool.in_memory, files(spool)) == (0, [])


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused_and_leaves_nothing(
    fetcher: http.Fetcher, spool: Spool, announced: bool
) -> None:
    body = b"x" * (LIMIT + 1)

    async def whole(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with serving(whole if announced else sending(body)) as url:
        with pytest.raises(http.TooLarge):
            await get(fetcher, url, spool)
    assert (spool.in_memory, files(spool)) == (0, [])


async def test_an_endless_body_ends_at_the_limit(fetcher: http.Fetcher, spool: Spool) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with serving(endless) as url:
        with pytest.raises(http.TooLarge):
            await get(fetcher, url, spool)
    assert (spool.in_memory, files(spool)) == (0, [])


async def test_a_body_that_stops_is_given_up(fetcher: http.Fetcher, spool: Spool) -> None:
    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 120_000)
        await asyncio.sleep(60)
        return response

    async with serving(stalls) as url:
        with pytest.raises(UpstreamError, match=r"no answer within 1 s") as raised:
            await get(fetcher, url, spool, 1.0)
    assert not isinstance(raised.value, http.Unreachable)
    assert (spool.in_memory, files(spool)) == (0, [])


async def test_a_trickle_does_not_count_as_progress_for_ever(
    fetcher: http.Fetcher, spool: Spool
) -> None:
    async def trickles(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    async with serving(trickles) as url:
        async with asyncio.timeout(30):
            with pytest.raises(UpstreamError, match="no answer within"):
                await get(fetcher, url, spool, 0.5)


async def test_a_cut_body_is_an_error(fetcher: http.Fetcher, spool: Spool) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write(b"x" * 50_000)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with serving(cut) as url:
        with pytest.raises(UpstreamError) as raised:
            await get(fetcher, url, spool)
    assert not isinstance(raised.value, http.Unreachable)
    assert spool.in_memory == 0


async def test_packed_answers_are_refused_unread(fetcher: http.Fetcher, spool: Spool) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    async with serving(sending(bomb, headers={"Content-Encoding": "gzip"})) as url:
        with pytest.raises(UpstreamError, match="packed"):
            await get(fetcher, url, spool)
    assert spool.in_memory == 0


async def test_the_body_of_an_error_is_cut(fetcher: http.Fetcher, spool: Spool) -> None:
    async with serving(sending(b"e" * 90_000, b"f" * (LIMIT * 2), status=500)) as url:
        answer = await get(fetcher, url, spool)
    assert answer.status == 500
    assert answer.body.size == http.ERROR_BYTES
    answer.body.close()


async def test_a_host_that_is_not_there_is_unreachable(fetcher: http.Fetcher, spool: Spool) -> None:
    async with serving(sending(b"")) as url:
        pass
    with pytest.raises(http.Unreachable):
        await get(fetcher, url, spool)


async def test_a_head_that_does_not_come_is_unreachable(
    fetcher: http.Fetcher, spool: Spool
) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(silent) as url:
        with pytest.raises(http.Unreachable):
            await get(fetcher, url, spool, 0.3)


async def test_a_redirect_to_a_private_address_is_refused(spool: Spool) -> None:
    async with http.open_fetcher() as guarded:
        with pytest.raises(UpstreamError, match="not a public address"):
            await get(guarded, "http://127.0.0.1:1/x", spool)


def test_a_new_process_empties_its_folder(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "left").write_bytes(b"x")
    spool = Spool(tmp_path / "spool", body_bytes=1, all_bytes=1)
    assert not (tmp_path / "spool").exists()
    file, path = spool.file()
    file.close()
    assert path.parent == tmp_path / "spool"
