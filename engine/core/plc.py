"""Reading the directory's log of operations (``/export``, and files of it). Pure.

The log is JSON lines, an operation each. A DID's document is made of its last operation alone;
one that was nullified has a later one behind it, for what nullifies is an operation, too. So
the last by ``createdAt`` decides, whatever else is read, in whatever order and how often.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from engine.core import identity

PAGE = 1000
"""Operations that the directory gives at a time, at most."""

LINE_LIMIT_BYTES = 64 * 1024
"""The directory takes operations of up to 7,500 bytes."""

AHEAD = timedelta(minutes=5)
"""An operation that is further ahead of the clock would stand before all that really come."""

OVERLAP = timedelta(seconds=60)
"""Read again where the log ends: what is written at the same moment may appear a little later."""

START = datetime(1970, 1, 1, tzinfo=UTC)

_STEP = timedelta(milliseconds=1)
_DID = re.compile(r"did:plc:[a-z0-9]{1,64}")
_TOMBSTONES = frozenset({"plc_tombstone", "tombstone"})


class BadLine(ValueError):
    """A line that says nothing that could be used; the message says why."""


class Operation(msgspec.Struct, frozen=True):
    """What a DID's document says from an operation on; all None: it has no document any more."""

    did: str
    created_at: datetime  # as the directory says, in UTC
    handle: str | None  # as written in the alias
    key: str | None  # did:key
    pds: str | None  # http(s) URL without a trailing slash


class _Line(msgspec.Struct):
    did: str
    operation: dict[str, Any]
    createdAt: datetime  # noqa: N815 - the directory's name
    nullified: bool = False


_decoder = msgspec.json.Decoder(_Line)


def read_line(line: bytes, now: datetime) -> Operation | None:
    """One line of the log; None for an operation that was nullified.

    Raises:
        BadLine: it is no operation of a did:plc, or of a time that has not come.
    """
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadLine(str(error)) from error
    if not _DID.fullmatch(found.did):
        raise BadLine("not of a did:plc")
    if found.createdAt.tzinfo is None:
        raise BadLine("a time without its zone")
    if found.createdAt > now + AHEAD:
        raise BadLine("of a time that has not come")
    if found.nullified:
        return None
    kind = found.operation.get("type")
    if kind in _TOMBSTONES:
        return Operation(found.did, found.createdAt, None, None, None)
    if kind not in ("plc_operation", "create"):
        raise BadLine("an operation of no known type")
    parts = identity.parts_of_document(found.did, _document(found.did, found.operation))
    key = f"did:key:{parts.key[1]}" if parts.key else None
    return Operation(
        found.did, found.createdAt, _clean(parts.handle), _clean(key), _clean(parts.pds)
    )


def last_of_each(operations: Iterable[Operation]) -> list[Operation]:
    """The last operation of each DID, in the order of DIDs; of equal times, the later given."""
    last: dict[str, Operation] = {}
    for operation in operations:
        known = last.get(operation.did)
        if known is None or known.created_at <= operation.created_at:
            last[operation.did] = operation
    return [last[did] for did in sorted(last)]


def identity_of(operation: Operation) -> identity.Identity | None:
    """The same as reading the document; None if it lacks handle, key or host."""
    if operation.handle is None or operation.key is None or operation.pds is None:
        return None
    multibase = operation.key.removeprefix("did:key:")
    return identity.Identity(operation.did, operation.handle, "Multikey", multibase, operation.pds)


def next_after(after: datetime, times: list[datetime], count: int, now: datetime) -> datetime:
    """Where the next page begins, never before this one.

    A page ends anywhere among operations of one instant; so a full one is followed by what is
    after the instant before its last. The log's end is read again for a while.

    Args:
        after: where this page began.
        times: of its operations that could be read.
        count: of its lines.
        now: the clock.
    """
    if not times:
        return after
    last = max(times)
    if count < PAGE:
        return max(after, min(last, now) - OVERLAP)
    if last - _STEP > after:
        return last - _STEP
    return max(after, last)  # a whole page of one instant


def instant(moment: datetime) -> str:
    """As ``after`` of ``/export`` takes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _document(did: str, operation: dict[str, Any]) -> dict[str, Any]:
    """The parts of the document that the directory makes of an operation that we read."""
    aliases: object
    kind: object
    if operation["type"] == "create":  # the form of before 2023, of which many are never replaced
        key, handle, pds = (operation.get(name) for name in ("signingKey", "handle", "service"))
        aliases = [_with_scheme(handle, "at://", ("at://", "http://", "https://"))]
        kind, endpoint = "AtprotoPersonalDataServer", _with_scheme(pds, "https://", _WEB)
    else:
        aliases = operation.get("alsoKnownAs")
        methods, services = operation.get("verificationMethods"), operation.get("services")
        key = methods.get("atproto") if isinstance(methods, dict) else None
        service = services.get("atproto_pds") if isinstance(services, dict) else None
        service = service if isinstance(service, dict) else {}
        kind, endpoint = service.get("type"), service.get("endpoint")
    multibase = key[8:] if isinstance(key, str) and key.startswith("did:key:") else None
    return {
        "alsoKnownAs": aliases,
        "verificationMethod": [
            {"id": f"{did}#atproto", "type": "Multikey", "publicKeyMultibase": multibase}
        ],
        "service": [{"id": "#atproto_pds", "type": kind, "serviceEndpoint": endpoint}],
    }


_WEB = ("http://", "https://")


def _with_scheme(text: object, scheme: str, known: tuple[str, ...]) -> object:
    if not isinstance(text, str):
        return None
    if text.startswith(scheme):
        return text
    if scheme == "at://":
        for other in known[1:]:
            text = text.removeprefix(other)
        return scheme + text
    return text if text.startswith(known) else scheme + text


def _clean(text: str | None) -> str | None:
    """What Postgres can hold; anything else is as good as absent."""
    return None if text is None or "\0" in text else text
