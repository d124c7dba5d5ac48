"""``headrace label URI``: what labelers say of a subject, from where, since when.

The rows are the data plane's own; beside each stands through which stream it came, with how far
that stream is held, and what of it could not be indexed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec
import orjson
from msgspec import Struct

from engine import sql
from engine.adapters import postgres
from engine.settings import Settings

LETTERS_SHOWN = 20


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
    dead_letters: list[Letter]


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
    return Report(
        uri,
        [Label(**{**row, "cid": row["cid"] or None}) for row in map(dict, labels)],
        [Letter(**row) for row in map(dict, letters)],
    )


def render_json(found: Report) -> bytes:
    """One JSON document, for programs."""
    return orjson.dumps(msgspec.to_builtins(found))


def render_text(found: Report) -> str:
    """A line a label, for a person."""
    lines = []
    for label in found.labels:
        said = "takes back" if label.neg else "says"
        version = f" of version {label.cid}" if label.cid else ""
        ends = f", until {label.exp}" if label.exp else ""
        origin = "before Headrace came to this database"
        if label.host is not None:
            origin = f"read from {label.host} (held up to seq {label.held_seq})"
        lines.append(f"{label.src} {said} {label.val!r}{version} since {label.cts}{ends}; {origin}")
    lines += [
        f"not indexed, {letter.noted_at}: {letter.src or '?'} from {letter.host}, "
        f"{letter.reason}: {letter.error}"
        for letter in found.dead_letters
    ]
    return "\n".join(lines) or f"no labeler that is read says anything of {found.uri}"
