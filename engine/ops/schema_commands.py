"""``headrace schema create`` and ``check``, and the look at the tables before every start."""

from __future__ import annotations

import logging
from typing import Any

import asyncpg

from engine import errors, log
from engine.adapters import postgres
from engine.ops import schema, schema_state
from engine.settings import Settings

logger = logging.getLogger(__name__)


async def create(settings: Settings) -> int:
    """Make all tables, ours and the data plane's; the exit code.

    Raises:
        SettingsError: there are such tables already.
    """
    conn = await postgres.connect(settings, "schema")
    try:
        made = await schema.create(conn, settings.database_schema)
        await _ensure_state(conn, settings)
    finally:
        await conn.close()
    print(
        f"made {made} tables in schema {settings.database_schema} "
        f"and ours in schema {settings.database_state_schema}"
    )
    return 0


async def check(settings: Settings, *, json: bool) -> int:
    """Print how the database differs from what is needed; 3 if it cannot be written."""
    conn = await postgres.connect(settings, "schema")
    try:
        report = await schema.check(conn, settings.database_schema)
    finally:
        await conn.close()
    print(schema.render_json(report).decode() if json else schema.render_text(report))
    return 0 if report.writable else errors.SchemaMismatch.exit_code


async def prepare(settings: Settings, *, own: bool) -> None:
    """See that every table is there and can be written, and bring our own ones up to date.

    Args:
        settings: those of the deployment.
        own: the database is one that we run ourselves, so its tables are ours to make.

    Raises:
        SchemaMismatch: the data plane's tables are missing, or differ so that they cannot be
            written; each difference is named.
    """
    conn = await postgres.connect(settings, "up")
    try:
        report = await schema.check(conn, settings.database_schema)
        if report.tables == 0:
            if not own:
                raise errors.SchemaMismatch(
                    f"{postgres.place(settings.database_url or '')} has no tables in schema "
                    f"{settings.database_schema}: make them with `headrace schema create`"
                )
            made = await schema.create(conn, settings.database_schema)
            logger.info("made the tables %s", log.fields(tables=made))
        elif not report.writable:
            raise errors.SchemaMismatch(f"the tables cannot be used\n{schema.render_text(report)}")
        await _ensure_state(conn, settings)
    finally:
        await conn.close()


async def _ensure_state(conn: asyncpg.Connection[Any], settings: Settings) -> None:
    state = await schema_state.ensure_state(
        conn, settings.database_state_schema, settings.shard_count
    )
    for name in state.applied:
        logger.info("migrated our own tables %s", log.fields(to=name))
