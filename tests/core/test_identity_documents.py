"""DID documents are read as the reference reads them, whatever else they hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import identity
from engine.errors import UpstreamError

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
KEY = {"id": f"{DID}#atproto", "type": "Multikey", "publicKeyMultibase": "zKey"}
PDS = {
    "id": "#atproto_pds",
    "type": "AtprotoPersonalDataServer",
    "serviceEndpoint": "https://pds.example/",
}


def document(**changes: Any) -> bytes:
    whole = {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": DID,
        "alsoKnownAs": ["at://Alice.example"],
        "verificationMethod": [KEY],
        "service": [PDS],
    }
    whole.update(changes)
    return json.dumps(whole).encode()


def test_parse_document_reads_handle_key_and_pds() -> None:
    found = identity.parse_document(DID, document())
    assert found == identity.Identity(
        DID, "Alice.example", "Multikey", "zKey", "https://pds.example"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"@context": "https://www.w3.org/ns/did/v1"},
        {"@context": [{"@vocab": "x"}]},
        {"alsoKnownAs": ["https://x.example", 7, "at://Alice.example", "at://second.example"]},
        {"verificationMethod": [{"id": "#other", "publicKeyMultibase": "zNo"}, KEY]},
        {"service": [{"id": "#x", "type": "T", "serviceEndpoint": {"uri": "u"}}, "odd", PDS]},
        {"service": [PDS | {"id": f"{DID}#atproto_pds", "type": [PDS["type"], "Other"]}]},
        {"service": PDS},
        {"extra": {"deep": [1]}},
    ],
)
def test_parse_document_is_liberal_about_the_rest(changes: dict[str, Any]) -> None:
    found = identity.parse_document(DID, document(**changes))
    assert (found.handle, found.key, found.pds) == ("Alice.example", "zKey", "https://pds.example")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "did:plc:other"}, "not of this DID"),
        ({"id": None}, "not of this DID"),
        ({"alsoKnownAs": []}, "no handle"),
        ({"alsoKnownAs": None}, "no handle"),
        ({"alsoKnownAs": ["https://alice.example", "at://"]}, "no handle"),
        ({"verificationMethod": []}, "no #atproto key"),
        ({"verificationMethod": [KEY | {"id": "#atproto_label"}]}, "no #atproto key"),
        ({"verificationMethod": [KEY | {"id": "did:plc:x#atproto"}]}, "no #atproto key"),
        ({"verificationMethod": [KEY | {"publicKeyMultibase": None}]}, "no #atproto key"),
        ({"verificationMethod": [KEY | {"type": "Ed25519"}]}, "no #atproto key"),
        ({"service": None}, "no #atproto_pds"),
        ({"service": [PDS | {"type": "AtprotoLabeler"}]}, "no #atproto_pds"),
        ({"service": [PDS | {"serviceEndpoint": "ftp://pds.example"}]}, "no #atproto_pds"),
        ({"service": [PDS | {"serviceEndpoint": "https://"}]}, "no #atproto_pds"),
        ({"service": [PDS | {"serviceEndpoint": "http://[x"}]}, "no #atproto_pds"),
        ({"service": [PDS | {"serviceEndpoint": {}}]}, "no #atproto_pds"),
    ],
)
def test_parse_document_without_a_part_says_which(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        identity.parse_document(DID, document(**changes))


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_parse_document_of_garbage_is_an_upstream_error(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        identity.parse_document(DID, data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("at://x"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "serviceEndpoint", "publicKeyMultibase", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_json, _json, _json)
def test_parse_document_of_any_json_gives_an_identity_or_an_upstream_error(
    aliases: Any, methods: Any, services: Any
) -> None:
    data = document(alsoKnownAs=aliases, verificationMethod=methods, service=services)
    try:
        found = identity.parse_document(DID, data)
    except UpstreamError:
        return
    assert found.did == DID


@pytest.mark.parametrize(
    ("did", "url"),
    [
        (DID, f"https://plc.example/{DID}"),
        ("did:web:alice.example", "https://alice.example/.well-known/did.json"),
        ("did:web:alice.example%3A8443", "https://alice.example:8443/.well-known/did.json"),
        ("did:web:localhost%3A2583", "http://localhost:2583/.well-known/did.json"),
    ],
)
def test_document_url_follows_the_method(did: str, url: str) -> None:
    assert identity.document_url(did, "https://plc.example/") == url


@pytest.mark.parametrize(
    "did",
    [
        "",
        "alice",
        "did:key:zabc",
        "did:web:",
        "did:web:alice.example:users:bob",
        "did:web:alice.example%2Fpath",
        "did:web:user%40alice.example",
        "did:web:alice.example%3Aport",
        "did:web:alice.example%3A99999",
        "did:web:a..b",
        "did:plc:a/../b",
        "did:plc:a?b",
        "did:web:" + "a" * 3000,
    ],
)
def test_document_url_of_another_form_is_refused(did: str) -> None:
    with pytest.raises(UpstreamError):
        identity.document_url(did, "https://plc.example")


def test_did_of_txt_needs_exactly_one_did_record() -> None:
    assert identity.did_of_txt(["v=spf1", f"did={DID}"]) == DID
    assert identity.did_of_txt([]) is None
    assert identity.did_of_txt([f"did={DID}", "did=did:plc:b"]) is None
    assert identity.did_of_txt([f"did={DID}", f"did={DID}"]) is None


def test_did_of_well_known_is_the_first_line_trimmed() -> None:
    assert identity.did_of_well_known(f"  {DID} \r\nmore".encode()) == DID
    assert identity.did_of_well_known(b"<html>") is None
    assert identity.did_of_well_known(b"\xff\xfe") is None


def test_did_of_xrpc_takes_only_a_text() -> None:
    assert identity.did_of_xrpc(json.dumps({"did": DID}).encode()) == DID
    for data in (b"", b"[]", b"{}", b'{"did":1}'):
        assert identity.did_of_xrpc(data) is None


@pytest.mark.parametrize(
    ("handle", "is_host"),
    [
        ("alice.bsky.social", True),
        ("xn--80ak6aa92e.com", True),
        ("alice.test", True),
        ("a..b", False),
        ("alice.example/path", False),
        ("user@alice.example", False),
        ("alice.example:80", False),
        ("alice\n.example", False),
        ("", False),
        ("a" * 64 + ".example", False),
        (".".join(["abc"] * 70), False),
    ],
)
def test_is_resolvable_takes_host_names_only(handle: str, is_host: bool) -> None:
    assert identity.is_resolvable(handle) is is_host


def test_retry_seconds_grow_to_six_hours_with_jitter() -> None:
    assert [identity.retry_seconds(n, 0.0) for n in range(1, 8)] == [
        10,
        60,
        600,
        3600,
        21600,
        21600,
        21600,
    ]
    assert identity.retry_seconds(1, 0.999) == pytest.approx(8, abs=0.01)
