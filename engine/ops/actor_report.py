"""``headrace actor DID-or-handle``: what is known of an account, from where, since when.

One section a source, in the order in which one follows a question: the row that the AppView
reads, what is still to be asked, what backfill knows, who writes it. What a section does not
have is absent; a section without a row says so.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson

from engine import sql
from engine.adapters import postgres
from engine.core import codec
from engine.core import identity as rules
from engine.errors import HeadraceError
from engine.settings import Settings

LETTERS_SHOWN = 10

SECTIONS = {
    "actor": "actor_row",
    "actor_sync": "actor_sync_row",
    "identity_due": "actor_due",
    "seat": "actor_seat",
    "document": "actor_document",
    "status_due": "actor_status_due",
    "deletion": "actor_deletion",
    "repo": "actor_repo",
}
"""Sections of the report, named as the tables, and the statement of each: one row by DID."""

Report = dict[str, Any]
"""``did``; of each section a row or None; ``shard``; ``dead_letters``, the newest first."""


class UnknownActor(HeadraceError):
    """Nothing is known of whoever was asked about."""


def run(settings: Settings, who: str, *, json: bool) -> int:
    """Print what is known of an account; the exit code.

    Raises:
        UnknownActor: there is nothing to print.
        StoreError: Postgres failed.
    """
    found = asyncio.run(read(settings, who))
    print(orjson.dumps(found).decode() if json else render_text(found))
    return 0


async def read(settings: Settings, who: str) -> Report:
    """Look an account up, by DID or handle.

    Raises:
        UnknownActor: nothing is known, or it is neither.
        StoreError: Postgres failed.
    """
    name = named(who)
    conn = await postgres.connect(settings, "actor")
    try:
        return await report(conn, settings.database_state_schema, name)
    finally:
        conn.terminate()


def named(who: str) -> str:
    """A DID as it is, or a handle in lower case, without the ``@`` and ``at://`` of habit.

    Raises:
        UnknownActor: it is neither.
    """
    name = who.strip().removeprefix("at://").partition("/")[0].removeprefix("@")
    if name.startswith("did:"):
        if codec.check_syntax("did", name):
            return name
    elif rules.is_resolvable(name) and "." in name:
        return name.lower()
    raise UnknownActor(f"{who[:200]!r} is neither a DID nor a handle")


async def report(conn: asyncpg.Connection[Any], state: str, name: str) -> Report:
    """As ``read``, over a connection whose search path has the data plane."""
    statements = sql.load("actor_report", state=state)
    async with postgres.translated_errors(), conn.transaction(readonly=True):
        did = name
        if not name.startswith("did:"):
            did = await conn.fetchval(statements["actor_did"], name)
            if did is None:
                raise UnknownActor(
                    f"no actor here has the handle {name}; by its DID it may be known, with a "
                    "handle that was not looked up yet or does not point back"
                )
        found: Report = {"did": did}
        for section, statement in SECTIONS.items():
            row = await conn.fetchrow(statements[statement], did)
            found[section] = None if row is None else dict(row)
        letters = await conn.fetch(statements["actor_letters"], did, LETTERS_SHOWN)
        found["dead_letters"] = [dict(letter) for letter in letters]
        if not letters and not any(found[section] for section in SECTIONS):
            raise UnknownActor(f"nothing is known of {did}: no event or host has named it here")
        shard = codec.shard_of(did, await conn.fetchval(statements["actor_shards"]))
        owner = await conn.fetchval(statements["actor_owner"], shard)
        found["shard"] = {"number": shard, "owner": owner}
    return found


def render_text(found: Report) -> str:
    """A line a fact, ``section.field value``: for a person, and for grep."""
    lines = [f"did {found['did']}"]
    for section in (*SECTIONS, "shard"):
        row = found[section]
        if row is None:
            lines.append(f"{section} none")
            continue
        shown = {field: value for field, value in row.items() if value is not None}
        lines += [f"{section}.{field} {_text(value)}" for field, value in shown.items()]
    for letter in found["dead_letters"]:
        told = " ".join(f"{field}={_text(value)}" for field, value in letter.items())
        lines.append(f"dead_letter {told}")
    if not found["dead_letters"]:
        lines.append("dead_letter none")
    return "\n".join(lines)


def _text(value: object) -> str:
    """On one line, whatever a stranger's server wrote."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split()) or '""'
