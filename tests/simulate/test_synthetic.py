"""A network made while it is served: the same each time, wrong only where it was asked to be."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import libipld
import pytest

from engine import simulate
from engine.core import codec
from engine.errors import SettingsError
from engine.simulate import Server, Synthetic, faults, generator, repository
from tests.native import cars

COUNT = 600
END = 100_000
REPOS = "com.atproto.sync.subscribeRepos"
LABELS = "com.atproto.label.subscribeLabels"


@asynccontextmanager
async def subscription(
    base: str, cursor: int | None, method: str = REPOS
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    asked = "" if cursor is None else f"?cursor={cursor}"
    url = f"{base}/xrpc/{method}{asked}"
    async with aiohttp.ClientSession() as client, client.ws_connect(url, max_msg_size=0) as socket:
        yield socket


async def read(base: str, count: int, cursor: int | None = 0, method: str = REPOS) -> list[bytes]:
    async with subscription(base, cursor, method) as socket, asyncio.timeout(30):
        return [await socket.receive_bytes() for _ in range(count)]


async def fetch(base: str, path: str) -> tuple[int, bytes, str]:
    async with aiohttp.ClientSession() as client, client.get(f"{base}/{path}") as response:
        return response.status, await response.read(), str(response.url)


def seq_of(frame: bytes) -> int | None:
    try:
        return int(libipld.decode_dag_cbor_multi(frame)[1]["seq"])
    except ValueError:
        return None


def made(frames: int = COUNT, **arguments: Any) -> Synthetic:
    network = Synthetic(3, accounts=30, **arguments)
    while len(network.frames) < frames and network.advance():
        pass
    return network


def log(network: simulate.Network, count: int = COUNT) -> list[bytes]:
    return [network.frames[index] for index in range(count)]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with simulate.serve(Synthetic(3, accounts=30)) as running:
        yield running


# Served live


async def test_what_is_served_comes_out_of_the_seed(server: Server) -> None:
    live = await read(server.url, COUNT)
    assert live == log(made())
    assert await read(server.url, 10, cursor=seq_of(live[99])) == live[100:110]
    other = Synthetic(4, accounts=30)
    other.advance()
    assert other.frames[0] != live[0]


async def test_little_more_is_made_than_was_sent(server: Server) -> None:
    assert len(server.network.frames) == 0
    server.rate = 200
    received = await read(server.url, 100)
    ahead = len(server.network.frames) - len(received)
    assert 50 < ahead < generator.AHEAD_FRAMES + 100


async def test_a_subscriber_that_fell_out_of_the_window_is_told() -> None:
    async with simulate.serve(Synthetic(3, accounts=30, window_bytes=500_000)) as server:
        await read(server.url, 2 * COUNT)
        (info,) = await read(server.url, 1, cursor=5)
        body: Any = libipld.decode_dag_cbor_multi(info)[1]
        assert body["name"] == "OutdatedCursor"


async def test_a_recording_replays_what_was_served(tmp_path: Path) -> None:
    with Synthetic(3, accounts=30, record=tmp_path / "kept", faults={"far-rev": 50}) as network:
        async with simulate.serve(network) as server:
            live = await read(server.url, COUNT)
            labels = await read(server.url_of(next(iter(network.labels))), 1, 0, LABELS)
    replayed = simulate.load(tmp_path / "kept")
    assert log(replayed) == live
    assert replayed.repos == network.listed()
    assert replayed.documents == network.documents
    assert len(replayed.repos) > 10
    for repo in replayed.repos:
        path = replayed.export(repo["did"])
        assert (path.read_bytes() if isinstance(path, Path) else None) == network.export(
            repo["did"]
        )
    async with simulate.serve(replayed) as server:
        assert await read(server.url, COUNT) == live
        assert await read(server.url_of(next(iter(network.labels))), 1, 0, LABELS) == labels


def test_a_recording_is_not_mixed_with_another(tmp_path: Path) -> None:
    (tmp_path / "frames.bin").write_bytes(b"")
    with pytest.raises(SettingsError, match="not empty"):
        Synthetic(3, record=tmp_path)


# Hosts and labelers


async def test_each_pds_has_its_own_repositories(server: Server) -> None:
    await read(server.url, COUNT)
    _, body, _ = await fetch(server.url, "xrpc/com.atproto.sync.listHosts")
    hosts = [host["hostname"] for host in json.loads(body)["hosts"]]
    assert len(set(hosts)) == 3
    everything = server.network.listed()
    seen: list[str] = []
    for host in hosts:
        _, body, _ = await fetch(f"http://{host}", "xrpc/com.atproto.sync.listRepos?limit=1000")
        dids = [repo["did"] for repo in json.loads(body)["repos"]]
        assert len(dids) > 3
        seen += dids
        for did in dids:
            _, document, _ = await fetch(server.url, did)
            (pds,) = (s for s in json.loads(document)["service"] if s["id"] == "#atproto_pds")
            assert pds["serviceEndpoint"] == f"http://{host}"
        method = f"xrpc/com.atproto.sync.getRepo?did={dids[-1]}"
        status, export, _ = await fetch(f"http://{host}", method)
        repo = codec.read_repo(export)
        assert status == 200
        assert isinstance(repo, codec.Export)
        assert repo.did == dids[-1]
        assert await fetch(server.url, method) == (200, export, f"http://{host}/{method}")
        other = next(h for h in hosts if h != host)
        assert (await fetch(f"http://{other}", method))[0] == 400
    assert sorted(seen) == sorted(repo["did"] for repo in everything)
    _, body, _ = await fetch(server.url, f"xrpc/com.atproto.sync.getHostStatus?hostname={hosts[0]}")
    assert json.loads(body)["accountCount"] > 3


async def test_each_labeler_has_its_own_stream(server: Server) -> None:
    await read(server.url, 2 * COUNT)
    bodies = {}
    for did in server.network.labels:
        _, document, _ = await fetch(server.url, did)
        (service,) = (s for s in json.loads(document)["service"] if s["id"] == "#atproto_labeler")
        frames = await read(service["serviceEndpoint"], 2, 0, LABELS)
        bodies[did] = [libipld.decode_dag_cbor_multi(frame)[1] for frame in frames]
        server.labelers[did].oldest_seq = 2
        header, body = libipld.decode_dag_cbor_multi(
            (await read(service["serviceEndpoint"], 1, 0, LABELS))[0]
        )
        assert (header, body["name"]) == ({"op": 1, "t": "#info"}, "OutdatedCursor")
        header = libipld.decode_dag_cbor_multi(
            (await read(service["serviceEndpoint"], 1, END, LABELS))[0]
        )[0]
        assert header == {"op": -1}
    assert len(bodies) == 2
    for did, found in bodies.items():
        assert {label["src"] for body in found for label in body["labels"]} == {did}


async def test_a_waiting_subscriber_of_labels_hears_of_new_ones(server: Server) -> None:
    did = next(iter(server.network.labels))
    async with subscription(server.url_of(did), 0, LABELS) as socket, asyncio.timeout(30):
        await read(server.url, 2 * COUNT)
        assert seq_of(await socket.receive_bytes()) == 1


# Faults in the frames


def commits(network: Synthetic) -> Iterator[tuple[dict[str, Any], dict[bytes, bytes], bool]]:
    """Body, blocks, and whether every block is what its CID says."""
    for frame in log(network, len(network.frames)):
        try:
            header, body = libipld.decode_dag_cbor_multi(frame)
        except ValueError:
            continue
        if header["t"] == "#commit":
            blocks = cars.parse(body["blocks"]).blocks
            whole = all(hashlib.sha256(block).digest() == cid[4:] for cid, block in blocks)
            yield body, dict(blocks), whole


def findings(network: Synthetic, clean: Synthetic) -> Counter[str]:
    """What is wrong with the commits of a network, by the name of the fault."""
    found: Counter[str] = Counter()
    since = {body["seq"]: body["since"] for body, _, _ in commits(clean)}
    far = repository.tid(faults.FAR_MICROS)
    for body, blocks, whole in commits(network):
        did = body["repo"]
        commit: Any = libipld.decode_dag_cbor(blocks[body["commit"]])
        unsigned = {name: value for name, value in commit.items() if name != "sig"}
        key = network._accounts[did].repo.key.did_key
        operations = [(op["path"], op["cid"], op.get("prev")) for op in body["ops"]]
        inverted = codec.invert_mst(commit["data"], list(blocks.items()), operations)
        missing = any(op["cid"] not in blocks for op in body["ops"] if op["cid"])
        if not codec.verify_signature(key, repository.encode(unsigned), commit["sig"]):
            found["bad-signature"] += 1
        elif not whole:
            found["wrong-cid"] += 1
        elif missing or isinstance(inverted, codec.RepoFault):
            found["missing-block"] += 1
        elif body["rev"] > far:
            found["far-rev"] += 1
        elif since[body["seq"]] != body["since"]:
            assert inverted != body["prevData"]
            found["broken-chain"] += 1
        elif body["since"] is not None:
            assert inverted == body["prevData"]
    return found


def test_every_fault_is_done_and_counted() -> None:
    every = dict.fromkeys(faults.NETWORK, 15)
    network, without = made(frames=END, ops=1500, faults=every), made(frames=END, ops=1500)
    found, clean = findings(network, without), findings(without, without)
    assert set(clean) <= {"missing-block"}
    for name in faults.NETWORK:
        assert network.counts[name] >= 30, name
    # A record that is missing without a fault is among the bad records of every network.
    found["missing-block"] -= clean["missing-block"]
    assert found == {name: network.counts[name] for name in every}


@pytest.mark.parametrize("name", faults.NETWORK)
def test_a_fault_comes_out_of_the_seed_and_leaves_the_rest_alone(name: str) -> None:
    clean, network = made(), made(faults={name: 10})
    assert log(network) == log(made(faults={name: 10}))
    differ = sum(a != b for a, b in zip(log(network), log(clean), strict=True))
    assert differ >= 40
    assert abs(differ - network.counts[name]) <= 5  # made ahead of what is compared
    assert network.listed() == clean.listed()


def test_a_fault_that_there_is_not_is_refused() -> None:
    for text, words in (("rain=3", "there are bad-signature"), ("drop=0", "positive")):
        with pytest.raises(SettingsError, match=words):
            faults.parse([text])
    assert faults.parse(["drop=7", "far-rev=9", "lag=0.5"]) == (
        {"far-rev": 9},
        {"drop": 7, "lag": 0.5},
    )


# Faults of a relay


async def test_dropped_frames_are_never_sent(server: Server) -> None:
    server.drop_every = 7
    live = log(made())
    kept = [frame for place, frame in enumerate(live) if (place + 1) % 7]
    assert await read(server.url, len(kept)) == kept
    assert await read(server.url, len(kept) - 99, cursor=seq_of(kept[98])) == kept[99:]
    assert server.faults["drop"] >= COUNT // 7


async def test_disconnects_lose_nothing_for_who_comes_back(server: Server) -> None:
    server.disconnect_every = 100
    received: list[bytes] = []
    while len(received) < COUNT:
        cursor = max((seq_of(frame) or 0 for frame in received), default=0)
        async with subscription(server.url, cursor) as socket, asyncio.timeout(30):
            while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                received.append(message.data)
    assert received[:COUNT] == log(made())
    assert server.faults["disconnect"] >= 5


async def test_a_restarted_relay_counts_anew_and_repeats_a_little(server: Server) -> None:
    server.restart_every = 250
    lives: list[list[bytes]] = []
    while len(lives) < 3:
        async with subscription(server.url, 0) as socket, asyncio.timeout(30):
            lives.append([])
            while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                lives[-1].append(message.data)
        last = max(seq_of(frame) or 0 for frame in lives[-1])
        (refused,) = await read(server.url, 1, cursor=last)
        assert libipld.decode_dag_cbor_multi(refused)[1] == {"error": "FutureCursor"}
    first, *later = lives
    assert first == log(made(), 250)
    for number, life in enumerate(later, 1):
        begin = 250 * number - 100
        same = log(made(frames=begin + 350), begin + 350)[begin:]
        assert [unnumbered(frame) for frame in life] == [unnumbered(frame) for frame in same]
        assert seq_of(life[0]) in (1, 2)
    assert server.faults["seq-restart"] == 3


def unnumbered(frame: bytes) -> bytes:
    try:
        header, body = libipld.decode_dag_cbor_multi(frame)
    except ValueError:
        return frame
    fields = {name: value for name, value in body.items() if name != "seq"}
    return repository.encode(header) + repository.encode(fields)


async def test_held_frames_are_sent_when_they_are_let_go(server: Server) -> None:
    server.hold_at = 30
    live = log(made())
    async with subscription(server.url, 0) as socket, asyncio.timeout(30):
        for index in range(30):
            assert await socket.receive_bytes() == live[index]
        server.disconnect()
        assert (await socket.receive()).type is not aiohttp.WSMsgType.BINARY
    async with subscription(server.url, 0) as socket, asyncio.timeout(30):
        for index in range(COUNT):
            if index == 30:
                assert server.sent == 60
                server.hold_at = None
            assert await socket.receive_bytes() == live[index]


async def test_a_lagging_relay_has_the_same_frames_later() -> None:
    network = Synthetic(3, accounts=30)
    async with simulate.serve(network) as prompt, simulate.serve(network, lag_seconds=0.4) as late:
        loop = asyncio.get_running_loop()
        begun = loop.time()  # nothing is made yet
        await read(prompt.url, 10)
        async with subscription(late.url, 0) as socket, asyncio.timeout(30):
            assert await socket.receive_bytes() == network.frames[0]
            assert loop.time() - begun >= 0.4
            for index in range(1, 50):
                assert await socket.receive_bytes() == network.frames[index]
        assert late.faults["lag"] >= 1


def test_two_relays_in_threads_serve_one_network() -> None:
    network = Synthetic(3, accounts=30)
    with (
        simulate.serve_in_thread(network) as one,
        simulate.serve_in_thread(network, drop_every=7) as other,
    ):

        async def both() -> tuple[list[bytes], list[bytes]]:
            return await asyncio.gather(read(one.url, COUNT), read(other.url, COUNT))

        whole, holed = asyncio.run(both())
    assert whole == log(made())
    assert len(set(holed) - set(whole)) <= COUNT // 6 + 1
    assert other.faults["drop"] >= COUNT // 7
