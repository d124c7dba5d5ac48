"""The simulated network answers like the real services do."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import libipld
import pytest
from yarl import URL

from engine import simulate
from engine.errors import SettingsError
from engine.simulate import MemoryFrames, Network, Server

ALICE = "did:plc:aliceaaaaaaaaaaaaaaaaaaaa"
BOB = "did:plc:bobbbbbbbbbbbbbbbbbbbbbbb"
WEB = "did:web:web.test"


def frame(seq: int, did: str = ALICE) -> bytes:
    body = {"seq": seq, "did": did, "time": "2026-01-01T00:00:00.000Z"}
    encode = libipld.encode_dag_cbor
    return bytes(encode({"op": 1, "t": "#identity"}) + encode(body))


def document(did: str, handle: str) -> dict[str, Any]:
    endpoint = "http://localhost:1"
    return {
        "id": did,
        "alsoKnownAs": [f"at://{handle}"],
        "verificationMethod": [],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": endpoint,
            },
            {"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": endpoint},
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frames = [frame(seq) for seq in (3, 5, 8, 13)]
    frames.insert(2, b"\xffgarbage")
    (tmp_path / "frames.bin").write_bytes(
        b"".join(len(one).to_bytes(4, "big") + one for one in frames)
    )
    repos = [
        {"did": ALICE, "head": "bafyalice", "rev": "3aaa", "active": True},
        {"did": BOB, "head": "bafybob", "rev": "3bbb", "active": False, "status": "takendown"},
    ]
    (tmp_path / "listRepos.json").write_text(json.dumps(repos))
    identities = {
        "plc": {ALICE: document(ALICE, "alice.test"), WEB: document(WEB, "web.test")},
        "handles": {"alice.test": ALICE},
    }
    (tmp_path / "identities.json").write_text(json.dumps(identities))
    cars = tmp_path / "cars"
    cars.mkdir()
    (cars / f"{ALICE.replace(':', '_')}.car").write_bytes(b"a car")
    taken = {"status": 400, "body": '{"error":"RepoTakendown"}'}
    (cars / f"{BOB.replace(':', '_')}.error.json").write_text(json.dumps(taken))
    return tmp_path


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Server]:
    async with simulate.serve(simulate.load(folder)) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def subscribe(
    client: aiohttp.ClientSession, server: Server, count: int, cursor: int | None = None
) -> list[bytes]:
    """The first ``count`` messages of a subscription; the rest must be silence."""
    url = server.url + "/xrpc/com.atproto.sync.subscribeRepos"
    if cursor is not None:
        url += f"?cursor={cursor}"
    async with client.ws_connect(url) as socket:
        received = [await asyncio.wait_for(socket.receive_bytes(), 5) for _ in range(count)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.receive(), 0.1)
        return received


def parts(message: bytes) -> list[Any]:
    return list(libipld.decode_dag_cbor_multi(message))


async def test_subscribe_with_a_cursor_sends_every_later_frame_unchanged(
    client: aiohttp.ClientSession, server: Server
) -> None:
    everything = [frame(3), frame(5), b"\xffgarbage", frame(8), frame(13)]
    assert await subscribe(client, server, 5, cursor=0) == everything
    assert await subscribe(client, server, 2, cursor=5) == [frame(8), frame(13)]
    assert await subscribe(client, server, 2, cursor=7) == [frame(8), frame(13)]
    assert await subscribe(client, server, 0, cursor=13) == []


async def test_subscribe_without_a_cursor_sends_only_live_frames(
    client: aiohttp.ClientSession, server: Server
) -> None:
    url = server.url + "/xrpc/com.atproto.sync.subscribeRepos"
    async with client.ws_connect(url) as socket:
        server.publish(frame(14))
        assert await asyncio.wait_for(socket.receive_bytes(), 5) == frame(14)
        server.publish(frame(15))
        assert await asyncio.wait_for(socket.receive_bytes(), 5) == frame(15)
    assert await subscribe(client, server, 2, cursor=13) == [frame(14), frame(15)]


async def test_subscribe_with_a_future_cursor_is_refused_and_closed(
    client: aiohttp.ClientSession, server: Server
) -> None:
    url = server.url + "/xrpc/com.atproto.sync.subscribeRepos?cursor=14"
    async with client.ws_connect(url) as socket:
        header, body = parts(await asyncio.wait_for(socket.receive_bytes(), 5))
        assert header == {"op": -1}
        assert body["error"] == "FutureCursor"
        assert (await asyncio.wait_for(socket.receive(), 5)).type is aiohttp.WSMsgType.CLOSE


async def test_subscribe_before_the_oldest_seq_says_so_first(
    client: aiohttp.ClientSession, server: Server
) -> None:
    server.oldest_seq = 8
    info, *frames = await subscribe(client, server, 3, cursor=3)
    assert parts(info)[0] == {"op": 1, "t": "#info"}
    assert parts(info)[1]["name"] == "OutdatedCursor"
    assert frames == [frame(8), frame(13)]
    assert await subscribe(client, server, 2, cursor=7) == [frame(8), frame(13)]


async def test_subscribe_with_a_cursor_that_is_no_number_is_a_bad_request(
    client: aiohttp.ClientSession, server: Server
) -> None:
    url = server.url + "/xrpc/com.atproto.sync.subscribeRepos?cursor=x"
    async with client.get(url) as response:
        assert response.status == 400


async def test_rate_holds_frames_back(client: aiohttp.ClientSession, server: Server) -> None:
    server.rate = 20
    started = asyncio.get_running_loop().time()
    await subscribe(client, server, 5, cursor=0)
    assert asyncio.get_running_loop().time() - started >= 4 / 20


async def test_disconnect_cuts_subscribers_off(
    client: aiohttp.ClientSession, server: Server
) -> None:
    url = server.url + "/xrpc/com.atproto.sync.subscribeRepos?cursor=13"
    async with client.ws_connect(url) as socket:
        server.disconnect()
        message = await asyncio.wait_for(socket.receive(), 5)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert server.connections == 1
    assert server.cursors == [13]


async def fetch(
    client: aiohttp.ClientSession, server: Server, path: str, host: str | None = None
) -> tuple[int, bytes]:
    headers = {"Host": host} if host else {}
    async with client.get(URL(server.url + path, encoded=True), headers=headers) as response:
        return response.status, await response.read()


async def test_list_repos_pages_through_every_repo(
    client: aiohttp.ClientSession, server: Server
) -> None:
    method = "/xrpc/com.atproto.sync.listRepos?limit=1"
    first = json.loads((await fetch(client, server, method))[1])
    second = json.loads((await fetch(client, server, f"{method}&cursor={first['cursor']}"))[1])
    assert [repo["did"] for repo in first["repos"] + second["repos"]] == [ALICE, BOB]
    assert "cursor" not in second
    assert (await fetch(client, server, "/xrpc/com.atproto.sync.listRepos?limit=0"))[0] == 400


async def test_list_hosts_names_this_server(client: aiohttp.ClientSession, server: Server) -> None:
    _, body = await fetch(client, server, "/xrpc/com.atproto.sync.listHosts")
    (host,) = json.loads(body)["hosts"]
    assert host == {
        "hostname": f"127.0.0.1:{server.port}",
        "seq": 13,
        "accountCount": 2,
        "status": "active",
    }


async def test_get_repo_answers_the_car_or_the_recorded_error(
    client: aiohttp.ClientSession, server: Server
) -> None:
    method = "/xrpc/com.atproto.sync.getRepo?did="
    assert await fetch(client, server, method + ALICE) == (200, b"a car")
    assert await fetch(client, server, method + BOB) == (400, b'{"error":"RepoTakendown"}')
    status, body = await fetch(client, server, method + "did:plc:nobody")
    assert (status, json.loads(body)["error"]) == (400, "RepoNotFound")
    assert (await fetch(client, server, method + "../../etc/passwd"))[0] == 400


async def test_commit_and_status_follow_the_repo_list(
    client: aiohttp.ClientSession, server: Server
) -> None:
    sync = "/xrpc/com.atproto.sync."
    latest = await fetch(client, server, f"{sync}getLatestCommit?did={ALICE}")
    assert json.loads(latest[1]) == {"cid": "bafyalice", "rev": "3aaa"}
    assert (await fetch(client, server, f"{sync}getLatestCommit?did={BOB}"))[0] == 400
    alive = await fetch(client, server, f"{sync}getRepoStatus?did={ALICE}")
    assert json.loads(alive[1]) == {"did": ALICE, "active": True, "rev": "3aaa"}
    taken = await fetch(client, server, f"{sync}getRepoStatus?did={BOB}")
    assert json.loads(taken[1]) == {"did": BOB, "active": False, "status": "takendown"}


async def test_documents_point_their_pds_at_this_server(
    client: aiohttp.ClientSession, server: Server
) -> None:
    for path, host in (
        (f"/{ALICE}", None),
        (f"/{ALICE.replace(':', '%3A')}", None),
        ("/.well-known/did.json", "web.test"),
    ):
        status, body = await fetch(client, server, path, host)
        assert status == 200, path
        endpoints = [service["serviceEndpoint"] for service in json.loads(body)["service"]]
        assert endpoints == [server.url, "http://localhost:1"]
    assert (await fetch(client, server, "/did:plc:nobody"))[0] == 404
    assert (await fetch(client, server, "/.well-known/did.json", "other.test"))[0] == 404


async def test_handles_resolve_both_ways(client: aiohttp.ClientSession, server: Server) -> None:
    method = "/xrpc/com.atproto.identity.resolveHandle?handle="
    assert json.loads((await fetch(client, server, method + "Alice.test"))[1]) == {"did": ALICE}
    assert (await fetch(client, server, method + "bob.test"))[0] == 400
    well_known = "/.well-known/atproto-did"
    assert await fetch(client, server, well_known, "alice.test:80") == (200, ALICE.encode())
    assert (await fetch(client, server, well_known, "bob.test"))[0] == 404


def test_serve_in_thread_needs_no_running_loop() -> None:
    with simulate.serve_in_thread(Network(MemoryFrames([frame(1)]))) as server:

        async def first() -> bytes:
            async with aiohttp.ClientSession() as client:
                return (await subscribe(client, server, 1, cursor=0))[0]

        assert asyncio.run(first()) == frame(1)


def test_load_of_a_folder_without_frames_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"frames\.bin"):
        simulate.load(tmp_path)


def test_load_of_a_cut_log_says_where(folder: Path) -> None:
    frames = folder / "frames.bin"
    frames.write_bytes(frames.read_bytes()[:-1])
    with pytest.raises(SettingsError, match="cut off in the frame at byte"):
        simulate.load(folder)


async def test_run_prints_the_settings_and_ends_on_term(folder: Path) -> None:
    code = f"from engine import simulate; from pathlib import Path; simulate.run(Path({folder!r}))"
    code = code.replace(repr(folder), repr(str(folder)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert "INGESTER_RELAY_HOSTS=http://127.0.0.1:" in line
    assert "NETWORK_ALLOW_PRIVATE=true" in line
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 5) == 0
