"""Whether the streams are those whose positions Postgres holds, and whole.

A stream is part of an epoch; one that lost entries, or belongs to another epoch, is never read on.
The firehose ingester makes streams anew and rewinds its cursor, and nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import errors
from engine.adapters import postgres
from engine.roles.indexer import reader as readers

if TYPE_CHECKING:
    import asyncpg

    from engine.adapters import resp
    from engine.core import streams
    from engine.roles.indexer import position as positions


async def check_streams(
    conn: asyncpg.Connection,
    sql: dict[str, str],
    held: dict[int, positions.Position],
    epoch_mark: bytes,
    mark: bytes | None,
    facts: dict[int, readers.StreamFacts | None],
) -> None:
    """Require the streams of our epoch, whole; report them where they are torn.

    Raises:
        StreamsTorn: another epoch, or a stream that lost entries. In the second
            case Postgres now says so, and the firehose ingester rewinds.
    """
    if mark != epoch_mark:
        raise errors.StreamsTorn(f"the epoch in Redis is {mark!r}, ours is {epoch_mark!r}")
    epoch = epoch_mark.decode().rpartition(":")[2]
    torn = readers.torn_shards(held, facts, epoch)
    if torn:
        async with postgres.translated_errors():
            await conn.execute(sql["deployment_torn"], epoch)
        raise errors.StreamsTorn(f"streams of shards {torn} lost entries; asked for a rewind")


async def current_epoch(
    conn: asyncpg.Connection,
    sql: dict[str, str],
    admin: resp.RespConnection,
    keys: streams.Keys,
    held: dict[str, dict[int, positions.Position]],
) -> bytes:
    """The epoch mark that Postgres and Redis agree on, with whole streams.

    Raises:
        StreamsTorn: there is none yet; the firehose ingester makes it.
    """
    async with postgres.translated_errors():
        row = await conn.fetchrow(sql["deployment_epoch"])
    if row is None or not row["epoch"]:
        raise errors.StreamsTorn("the streams were not made yet")
    mark = f"{row['deployment_id']}:{row['epoch']}".encode()
    for source, of_source in held.items():
        found, facts, _ = await readers.inspect(admin, keys, source, sorted(of_source), [])
        await check_streams(conn, sql, of_source, mark, found, facts)
    return mark
