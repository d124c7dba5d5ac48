"""``headrace label URI``: what labelers say of a subject, from where, since when.

The rows are the data plane's own; beside each stands through which stream it came, since when
that is read, how far it is held and whether its signatures are good, and what could not be
indexed. Which seq a label had is not kept: the data plane has no place for it, and millions
would need one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec
import orjson
from msgspec import Struct

from engine import sql
from engine.adapters import postgres
from engine.settings import Settings

LETTERS_SHOWN = 20

SIGNATURES = {
    "verified": "signature verified",
    "unchecked": "signature not verified",
    "mixed": "signature perhaps not verified: {} of {} labels of its stream are not",
    "unknown": "signature unknown",
}


class Label(Struct):
    """One label, verbatim, and where it is from."""

    src: str
    uri: str
    cid: str | None  # None: of every version
    val: str
    neg: bool
    cts: str  # since when, as the labeler says
    exp: str | None
    host: str | None  # that it was read from; None: it was there before us
    generation: int | None  # of the host's seqs
    held_seq: int | None  # everything up to it is indexed
    read_since: str | None  # when we began to read that stream
    last_written_at: str | None  # when something of it was last committed
    signature: str  # verified, unchecked or unknown (it was there before us), or mixed
    applied: int  # labels taken from that stream
    unverified: int  # of them, without a signature that was checked and good


class Letter(Struct):
    """A label that could not be indexed."""

    src: str | None
    host: str
    seq: int | None
    reason: str
    error: str
    noted_at: str


class Report(Struct):
    """What is known of a subject."""

    uri: str
    labels: list[Label]
    dead_letters: list[Letter]  # the newest
    dead_letter_count: int


def run(settings: Settings, uri: str, *, json: bool) -> int:
    """Print what is known of a subject; the exit code.

    Raises:
        StoreError: Postgres failed.
    """
    found = asyncio.run(read(settings, uri))
    print(render_json(found).decode() if json else render_text(found))
    return 0


async def read(settings: Settings, uri: str) -> Report:
    """Look a subject up, an at-uri or a DID.

    Raises:
        StoreError: Postgres failed.
    """
    conn = await postgres.connect(settings, "label")
    try:
        return await report(conn, settings.database_state_schema, uri)
    finally:
        conn.terminate()


async def report(conn: asyncpg.Connection[Any], state: str, uri: str) -> Report:
    """As ``read``, over a connection whose search path has the data plane."""
    statements = sql.load("label_report", state=state)
    async with postgres.translated_errors():
        labels = await conn.fetch(statements["labels"], uri)
        letters = await conn.fetch(statements["letters"], uri, LETTERS_SHOWN)
        count = await conn.fetchval(statements["letter_count"], uri)
    return Report(
        uri,
        [
            Label(**{**row, "cid": row["cid"] or None, "signature": signature(row)})
            for row in map(dict, labels)
        ],
        [Letter(**row) for row in map(dict, letters)],
        count,
    )


def signature(row: Mapping[str, Any]) -> str:
    """What is known of a label's signature, by those of its whole stream."""
    if row["host"] is None:
        return "unknown"
    if row["unverified"] == 0:
        return "verified"
    return "unchecked" if row["unverified"] >= row["applied"] else "mixed"


def render_json(found: Report) -> bytes:
    """One JSON document, for programs."""
    return orjson.dumps(msgspec.to_builtins(found))


def render_text(found: Report) -> str:
    """A line a label, each with its subject, for a person and for grep."""
    lines = []
    for label in found.labels:
        said = "takes back" if label.neg else "says"
        version = f" of version {label.cid}" if label.cid else ""
        ends = f", until {label.exp}" if label.exp else ""
        origin = "before Headrace came to this database"
        if label.host is not None:
            origin = (
                f"read from {label.host}/{label.generation} since {label.read_since}, "
                f"held up to seq {label.held_seq}"
            )
        signed = SIGNATURES[label.signature].format(label.unverified, label.applied)
        lines.append(
            f"{label.uri}: {label.src} {said} {label.val!r}{version} since {label.cts}{ends}; "
            f"{origin}; {signed}"
        )
    lines += [
        f"{found.uri}: not indexed, {letter.noted_at}: {letter.src or '?'} from {letter.host}, "
        f"seq {letter.seq or '?'}, {letter.reason}: {letter.error}"
        for letter in found.dead_letters
    ]
    hidden = found.dead_letter_count - len(found.dead_letters)
    if hidden > 0:
        lines.append(f"{found.uri}: not indexed, {hidden} older ones")
    return "\n".join(lines) or f"no labeler that is read says anything of {found.uri}"
