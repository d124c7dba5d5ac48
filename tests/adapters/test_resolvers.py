"""DIDs and handles resolve against real sockets: a DNS server, web servers, the simulator."""

import json
from collections.abc import AsyncIterator
from typing import Any

import dns.asyncresolver
import dns.rcode
import pytest

from engine import simulate
from engine.adapters import handles, http, identity
from engine.errors import UpstreamError
from engine.simulate import MemoryFrames, Network, Server
from tests.fix_dns import Here, NameServer, serve_names

ALICE = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
BOB = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"


def document(did: str, handle: str) -> dict[str, Any]:
    return {
        "id": did,
        "alsoKnownAs": [f"at://{handle}"],
        "verificationMethod": [
            {"id": "#atproto", "type": "Multikey", "publicKeyMultibase": "zKey"}
        ],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": "http://localhost:1",
            }
        ],
    }


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    network = Network(
        MemoryFrames(),
        documents={ALICE: document(ALICE, "alice.test"), BOB: {"id": BOB}},
        handles={"alice.test": ALICE, "web.test": BOB},
    )
    async with simulate.serve(network) as running:
        yield running


@pytest.fixture
async def fetcher() -> AsyncIterator[http.Fetcher]:
    async with http.open_fetcher(allow_private=True, resolver=Here()) as made:
        yield made


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    async with serve_names() as running:
        yield running


@pytest.fixture
def resolver(
    fetcher: http.Fetcher, server: Server, name_server: NameServer
) -> handles.NetworkHandleResolver:
    asking = dns.asyncresolver.Resolver(configure=False)
    asking.nameservers = ["127.0.0.1"]
    asking.port = name_server.port
    return handles.NetworkHandleResolver(
        fetcher,
        timeout_seconds=1.0,
        resolver=asking,
        well_known=f"http://{{handle}}:{server.port}/.well-known/atproto-did",
    )


async def test_did_resolver_reads_the_directory(fetcher: http.Fetcher, server: Server) -> None:
    found = await identity.DidResolver(fetcher, server.url).resolve(ALICE)
    assert (found.handle, found.pds) == ("alice.test", server.url)


async def test_did_resolver_reads_did_web_from_its_host(
    fetcher: http.Fetcher, server: Server
) -> None:
    did = f"did:web:localhost%3A{server.port}"
    server.network.documents[did] = document(did, "web.test")
    found = await identity.DidResolver(fetcher, "http://unused.test").resolve(did)
    assert (found.did, found.handle) == (did, "web.test")


async def test_did_resolver_tells_unregistered_from_unusable_and_unreachable(
    fetcher: http.Fetcher, server: Server
) -> None:
    resolver = identity.DidResolver(fetcher, server.url, timeout_seconds=1.0)
    with pytest.raises(identity.Unregistered):
        await resolver.resolve("did:plc:nobody")
    for did in (BOB, "did:key:zabc", "nonsense"):
        with pytest.raises(UpstreamError) as caught:
            await resolver.resolve(did)
        assert not isinstance(caught.value, identity.Unregistered), did
    with pytest.raises(UpstreamError):
        await identity.DidResolver(fetcher, "http://127.0.0.1:1").resolve(ALICE)


async def test_a_mirror_is_asked_while_the_directory_fails(
    fetcher: http.Fetcher, server: Server
) -> None:
    now = 0.0
    async with simulate.serve(server.network, identity_status=503) as first:
        resolver = identity.DidResolver(fetcher, first.url, mirrors=[server.url], clock=lambda: now)
        assert (await resolver.keeper(ALICE)).pds == server.url
        with pytest.raises(identity.DirectoryAway, match="no such DID"):
            await resolver.keeper("did:plc:nobody")  # a mirror may lag: that is no answer
        first.identity_status = 200
        now = identity.REST_SECONDS_MAX
        assert (await resolver.keeper(ALICE)).pds == first.url
        with pytest.raises(identity.Unregistered):
            await resolver.keeper("did:plc:nobody")


async def test_no_directory_that_answers_is_told_apart_from_a_refusal(
    fetcher: http.Fetcher, server: Server
) -> None:
    resolver = identity.DidResolver(fetcher, server.url, mirrors=["http://127.0.0.1:1"])
    server.identity_status = 500
    with pytest.raises(identity.DirectoryAway):
        await resolver.keeper(ALICE)
    server.identity_status = 400
    with pytest.raises(identity.Refused):
        await identity.DidResolver(fetcher, server.url).keeper(ALICE)


async def test_handle_is_found_by_dns_without_asking_its_web_server(
    resolver: handles.NetworkHandleResolver, name_server: NameServer
) -> None:
    name_server.table["_atproto.web.test"] = ["v=spf1", f"did={ALICE}"]
    assert await resolver.resolve("web.test") == handles.Answer(ALICE)
    assert name_server.asked == ["_atproto.web.test"]


@pytest.mark.parametrize(
    "answer", [int(dns.rcode.NXDOMAIN), int(dns.rcode.SERVFAIL), [], ["v=spf1"], None]
)
async def test_handle_is_found_by_https_whatever_dns_says(
    resolver: handles.NetworkHandleResolver, name_server: NameServer, answer: Any
) -> None:
    name_server.table["_atproto.web.test"] = answer
    assert await resolver.resolve("web.test") == handles.Answer(BOB)
    assert name_server.asked


async def test_handle_with_two_did_records_is_left_to_https(
    resolver: handles.NetworkHandleResolver, name_server: NameServer
) -> None:
    name_server.table["_atproto.web.test"] = [f"did={ALICE}", "did=did:plc:other"]
    assert await resolver.resolve("web.test") == handles.Answer(BOB)


async def test_handle_denied_by_both_is_a_certain_no(
    resolver: handles.NetworkHandleResolver,
) -> None:
    assert await resolver.resolve("nobody.test") == handles.Answer(None)


@pytest.mark.parametrize("handle", ["a..b", "x/../y", "user@web.test", "web.test:80", ""])
async def test_handle_that_is_no_host_name_is_never_asked_for(
    resolver: handles.NetworkHandleResolver, name_server: NameServer, handle: str
) -> None:
    assert await resolver.resolve(handle) == handles.Answer(None)
    assert not name_server.asked


async def test_handle_whose_servers_fail_is_an_uncertain_no(
    resolver: handles.NetworkHandleResolver, name_server: NameServer
) -> None:
    name_server.table["_atproto.nobody.test"] = int(dns.rcode.SERVFAIL)
    answer = await resolver.resolve("nobody.test")
    assert answer.did is None
    assert "DNS" in (answer.failure or "")
    answer = await resolver.resolve("host.gone")
    assert answer.did is None
    assert "host.gone" in (answer.failure or "")


async def test_xrpc_resolver_asks_the_service(fetcher: http.Fetcher, server: Server) -> None:
    resolver = handles.handle_resolver(fetcher, server.url + "/", 1.0)
    assert await resolver.resolve("alice.test") == handles.Answer(ALICE)
    assert await resolver.resolve("nobody.test") == handles.Answer(None)
    away = handles.handle_resolver(fetcher, "http://127.0.0.1:1", 1.0)
    answer = await away.resolve("alice.test")
    assert answer.did is None
    assert answer.failure is not None


def test_handle_resolver_without_a_url_asks_the_network(fetcher: http.Fetcher) -> None:
    chosen = handles.handle_resolver(fetcher, "", 1.0)
    assert isinstance(chosen, handles.NetworkHandleResolver)
    assert json.dumps(handles.WELL_KNOWN.format(handle="a.test")) == (
        '"https://a.test/.well-known/atproto-did"'
    )
