"""Reading DID documents and handle answers: pure, and liberal about shapes.

The rules are the reference's (its identity package): the handle is the first
``at://`` alias, the signing key is the verification method ``#atproto``, the PDS
is the service ``#atproto_pds`` of type ``AtprotoPersonalDataServer``. A document
without one of the three is of no use to the network. What else a document holds,
and in which shape, is nobody's business: strangers write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from engine.errors import UpstreamError

KEY_TYPES = frozenset(
    {"Multikey", "EcdsaSecp256k1VerificationKey2019", "EcdsaSecp256r1VerificationKey2019"}
)
"""Verification methods whose ``publicKeyMultibase`` the network knows how to read."""

RETRY_SECONDS = (10.0, 60.0, 600.0, 3600.0, 21600.0)
"""Wait after the first, second, ... failed look-up of an identity; the last one repeats."""

RETRY_JITTER = 0.2
"""Part of a wait that is random, so that what failed together does not return together."""

HANDLE_TRIES = 3
"""A handle whose servers failed (not: denied) this often counts as not resolving.

Fewer would blank a handle for one lost packet; more would keep a dead one on display.
"""

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_DID = re.compile(r"did:[a-z]+:[A-Za-z0-9._:%-]*[A-Za-z0-9._-]")


class Identity(msgspec.Struct, frozen=True):
    """What a DID document says about an account."""

    did: str
    handle: str  # as written in the alias; proves nothing until it resolves back
    key_type: str  # one of KEY_TYPES
    key: str  # publicKeyMultibase
    pds: str  # http(s) URL without a trailing slash


class Keeper(msgspec.Struct, frozen=True):
    """Who keeps a DID's repository, and with which key it is signed; what the document names."""

    pds: str | None  # http(s) URL without a trailing slash
    key: tuple[str, str] | None  # one of KEY_TYPES, publicKeyMultibase


class Parts(msgspec.Struct, frozen=True):
    """What a DID document says of an account, as far as it does."""

    handle: str | None
    key: tuple[str, str] | None
    pds: str | None


class Labeler(msgspec.Struct, frozen=True):
    """What a DID document says about a labeler."""

    endpoint: str  # http(s) URL without a trailing slash
    key: tuple[str, str] | None  # of labels: one of KEY_TYPES, publicKeyMultibase


def document_url(did: str, plc_url: str) -> str:
    """Where the document of a DID is to be asked for.

    A did:web is a bare host; ``%3A`` stands for the colon of a port. Plain http
    is only for ``localhost``.

    Raises:
        UpstreamError: a method or form that the network does not use.
    """
    if len(did) > 2048 or not _DID.fullmatch(did):
        raise UpstreamError(f"not a DID: {did[:100]!r}")
    if did.startswith("did:plc:"):
        return f"{plc_url.rstrip('/')}/{quote(did, safe=':')}"
    if did.startswith("did:web:"):
        host, colon, port = unquote(did.removeprefix("did:web:")).partition(":")
        if not _HOST.fullmatch(host) or (colon and not _is_port(port)):
            raise UpstreamError(f"a did:web must be a host without a path: {did[:100]!r}")
        scheme = "http" if host == "localhost" else "https"
        return f"{scheme}://{host}{colon}{port}/.well-known/did.json"
    raise UpstreamError(f"a DID method that is not in use: {did[:100]!r}")


def parse_document(did: str, data: bytes) -> Identity:
    """Read a DID document.

    Raises:
        UpstreamError: it is another DID's, or lacks the handle, the key or the PDS.
    """
    document = _document(did, data)
    handle = _handle(document)
    if handle is None:
        raise UpstreamError("the DID document names no handle")
    key = _key(did, document)
    if key is None:
        raise UpstreamError("the DID document has no #atproto key")
    pds = _pds(did, document)
    if pds is None:
        raise UpstreamError("the DID document has no #atproto_pds service")
    return Identity(did, handle, *key, pds)


def parts_of_document(did: str, document: dict[str, Any]) -> Parts:
    """Handle, key and host of a document that was decoded, by the same rules."""
    return Parts(_handle(document), _key(did, document), _pds(did, document))


def pds_of_document(did: str, data: bytes) -> str | None:
    """The PDS of a DID document, whatever else that lacks; http(s) URL without a trailing slash.

    Raises:
        UpstreamError: it is no DID document, or another DID's.
    """
    return _pds(did, _document(did, data))


def keeper_of_document(did: str, data: bytes) -> Keeper:
    """Host and key of a DID document, whatever else that lacks.

    Raises:
        UpstreamError: it is no DID document, or another DID's.
    """
    document = _document(did, data)
    return Keeper(_pds(did, document), _key(did, document))


def labeler_of_document(did: str, data: bytes) -> Labeler:
    """Where a labeler's stream is, and the key of its labels.

    Raises:
        UpstreamError: it is no DID document, another DID's, or not a labeler's.
    """
    document = _document(did, data)
    endpoint = _endpoint(did, document, "#atproto_labeler", "AtprotoLabeler")
    if endpoint is None:
        raise UpstreamError("the DID document has no #atproto_labeler service")
    return Labeler(endpoint, _key(did, document, "#atproto_label"))


def is_resolvable(handle: str) -> bool:
    """Whether a handle is a host name, so that DNS and a web server may be asked."""
    return _HOST.fullmatch(handle) is not None


def did_of_txt(records: Iterable[str]) -> str | None:
    """The DID that the TXT records of ``_atproto.HANDLE`` name: exactly one ``did=``."""
    found = [record[4:] for record in records if record.startswith("did=")]
    return found[0] if len(found) == 1 else None


def did_of_well_known(data: bytes) -> str | None:
    """The DID in the answer of ``/.well-known/atproto-did``: its first line, trimmed."""
    line = data.decode("utf-8", "replace").split("\n", 1)[0].strip()
    return line if line.startswith("did:") else None


def did_of_xrpc(data: bytes) -> str | None:
    """The DID in the answer of ``com.atproto.identity.resolveHandle``."""
    try:
        answer = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    did = answer.get("did") if isinstance(answer, dict) else None
    return did if isinstance(did, str) else None


def error_of_xrpc(data: bytes) -> str | None:
    """The name of the error in an XRPC answer that is no success."""
    try:
        answer = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    name = answer.get("error") if isinstance(answer, dict) else None
    return name if isinstance(name, str) else None


def active_of_xrpc(did: str, data: bytes) -> bool | None:
    """What ``com.atproto.sync.getRepoStatus`` says of a DID; None if that is something else."""
    try:
        answer = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(answer, dict) or answer.get("did") != did:
        return None
    active = answer.get("active")
    return active if isinstance(active, bool) else None


def retry_seconds(attempts: int, random: float) -> float:
    """How long to wait after ``attempts`` failures; ``random`` is in [0, 1)."""
    base = RETRY_SECONDS[min(max(attempts, 1), len(RETRY_SECONDS)) - 1]
    return base * (1 - RETRY_JITTER * random)


def _document(did: str, data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpstreamError("the DID document is not JSON") from error
    if not isinstance(document, dict) or document.get("id") != did:
        raise UpstreamError("the DID document is not of this DID")
    return document


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def _items(document: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    value = document.get(key)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _has_id(item: dict[str, Any], did: str, fragment: str) -> bool:
    return item.get("id") in (fragment, did + fragment)


def _handle(document: dict[str, Any]) -> str | None:
    aliases = document.get("alsoKnownAs")
    for alias in aliases if isinstance(aliases, list) else [aliases]:
        if isinstance(alias, str) and alias.startswith("at://") and len(alias) > 5:
            return alias[5:]
    return None


def _key(did: str, document: dict[str, Any], fragment: str = "#atproto") -> tuple[str, str] | None:
    for method in _items(document, "verificationMethod"):
        if _has_id(method, did, fragment):
            kind, key = method.get("type"), method.get("publicKeyMultibase")
            if isinstance(kind, str) and kind in KEY_TYPES and isinstance(key, str) and key:
                return kind, key
            return None
    return None


def _pds(did: str, document: dict[str, Any]) -> str | None:
    return _endpoint(did, document, "#atproto_pds", "AtprotoPersonalDataServer")


def _endpoint(did: str, document: dict[str, Any], fragment: str, kind: str) -> str | None:
    for service in _items(document, "service"):
        if not _has_id(service, did, fragment):
            continue
        kinds = service.get("type")
        if kind not in (kinds if isinstance(kinds, list) else [kinds]):
            continue
        endpoint = service.get("serviceEndpoint")
        if not isinstance(endpoint, str):
            return None
        try:
            url = urlsplit(endpoint)
        except ValueError:
            return None
        return endpoint.rstrip("/") if url.scheme in ("http", "https") and url.hostname else None
    return None
