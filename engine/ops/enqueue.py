"""``headrace enqueue``: repositories that are to be fetched now, whatever became of them before.

They are asked for in ``headrace.repo``; the lister that leads puts them into the queue within
seconds, before those that were never fetched. So nothing is lost where no lister is running,
nor with Redis, and a DID asked for twice is fetched once.
"""

from __future__ import annotations

import csv as csv_module
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from engine import sql
from engine.adapters import postgres
from engine.core import listing, urls
from engine.errors import SettingsError
from engine.settings import Settings

CHUNK = 1000
"""Repositories in one transaction: indexers wait for no longer than that takes."""


@dataclass(frozen=True)
class Asked:
    """What an operator wants fetched."""

    dids: list[str] = field(default_factory=list)  # known or not
    pds: str | None = None  # origin: all that is known of the host, and it is listed again
    missing: bool = False  # all that were tried, never indexed, and are not tried again


def asked(dids: Iterable[str], csv: Path | None, pds: str | None, missing: bool) -> Asked:
    """What the arguments of the command say.

    Raises:
        SettingsError: one of them is wrong, or there is none.
    """
    found = list(dict.fromkeys(did.strip() for did in dids))
    for did in found:
        if not listing.is_known_did(did):
            raise SettingsError(f"{did[:100]!r} is no did:plc or did:web")
    if csv is not None:
        found = list(dict.fromkeys([*found, *read_csv(csv)]))
    if not found and pds is None and not missing:
        raise SettingsError("enqueue needs DIDs, --csv FILE, --pds HOST or --missing")
    try:
        return Asked(found, None if pds is None else urls.origin(pds), missing)
    except ValueError as error:
        raise SettingsError(f"--pds {error}") from error


def read_csv(path: Path) -> list[str]:
    """The first column of a file; a line at the top that says ``did`` is left out.

    Raises:
        SettingsError: the file cannot be read, or a line begins with no DID; names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(dict.fromkeys(_rows(path, csv_module.reader(file))))
    except (OSError, UnicodeDecodeError, csv_module.Error) as error:
        raise SettingsError(f"{path}: {error}") from error


def _rows(path: Path, lines: Iterator[list[str]]) -> Iterator[str]:
    for number, cells in enumerate(lines, 1):
        did = cells[0].strip() if cells else ""
        if not did or (number == 1 and did.lower() == "did"):
            continue
        if not listing.is_known_did(did):
            raise SettingsError(f"{path}, line {number}: {did[:100]!r} is no did:plc or did:web")
        yield did


async def enqueue(settings: Settings, asked: Asked) -> int:
    """Ask for repositories; durable on return.

    Returns:
        How many were asked for. Those of a host that only its new list will name are not counted.

    Raises:
        StoreError: Postgres failed; what was asked for before stays so.
    """
    statements = sql.load("enqueue", state=settings.database_state_schema)
    conn = await postgres.connect(settings, "enqueue")
    try:
        count = 0
        async with postgres.translated_errors():
            await conn.execute("SET synchronous_commit = on")
            if asked.pds is not None:
                await conn.execute(statements["enqueue_list"], asked.pds)
            async for chunk in _chunks(conn, statements, asked):
                count += await conn.fetchval(statements["enqueue_dids"], chunk)
        return count
    finally:
        conn.terminate()


async def _chunks(
    conn: asyncpg.Connection[Any], statements: dict[str, str], asked: Asked
) -> AsyncIterator[list[str]]:
    for start in range(0, len(asked.dids), CHUNK):
        yield asked.dids[start : start + CHUNK]
    found: list[tuple[str, list[str]]] = []
    if asked.pds is not None:
        found.append(("enqueue_host", [asked.pds]))
    if asked.missing:
        found.append(("enqueue_missing", []))
    for name, arguments in found:
        after = ""
        while rows := await conn.fetch(statements[name], *arguments, after, CHUNK):
            yield [row["did"] for row in rows]
            after = rows[-1]["did"]
