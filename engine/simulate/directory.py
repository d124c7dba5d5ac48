"""The log of a simulated directory: what ``/export`` gives, and the operation of a document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from engine.simulate.network import Document

PAGE = 1000

FIRST = "2022-11-17T00:{:02d}:{:02d}.{:03d}Z"
"""When a document that came from nowhere was made: a millisecond after the one before it."""


def of_documents(documents: Iterable[Document]) -> list[Document]:
    """A log of one operation for each document of a did:plc that has not one of its own."""
    dids = [each for each in documents if str(each.get("id")).startswith("did:plc:")]
    return [operation(document, _instant(number)) for number, document in enumerate(dids)]


def operation(document: Document, created_at: str, *, nullified: bool = False) -> Document:
    """The line of the log that made a document."""
    return line(str(document["id"]), _of(document), created_at, nullified=nullified)


def tombstone(did: str, created_at: str) -> Document:
    """The line that leaves a DID without a document."""
    return line(did, {"type": "plc_tombstone", "prev": None, "sig": ""}, created_at)


def line(did: str, made: Document, created_at: str, *, nullified: bool = False) -> Document:
    """A line of the log."""
    return {
        "did": did,
        "operation": made,
        "cid": "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        "nullified": nullified,
        "createdAt": created_at,
    }


def page(log: Iterable[Document], after: str, count: int) -> bytes:
    """What is after an instant, the oldest first, without an end to the last line."""
    some = sorted((each for each in log if each["createdAt"] > after), key=_created_at)
    return b"\n".join(orjson.dumps(each) for each in some[: min(count, PAGE)])


def _created_at(line: Document) -> str:
    return str(line["createdAt"])


def _of(document: Document) -> dict[str, Any]:
    methods = document.get("verificationMethod")
    services = document.get("service")
    return {
        "type": "plc_operation",
        "rotationKeys": [],
        "alsoKnownAs": document.get("alsoKnownAs", []),
        "verificationMethods": {
            _name(each): f"did:key:{each.get('publicKeyMultibase')}"
            for each in (methods if isinstance(methods, list) else [])
        },
        "services": {
            _name(each): {"type": each.get("type"), "endpoint": each.get("serviceEndpoint")}
            for each in (services if isinstance(services, list) else [])
        },
        "prev": None,
        "sig": "",
    }


def _name(part: Document) -> str:
    return str(part.get("id")).rpartition("#")[2]


def _instant(number: int) -> str:
    seconds, millis = divmod(number, 1000)
    return FIRST.format(seconds // 60 % 60, seconds % 60, millis)
