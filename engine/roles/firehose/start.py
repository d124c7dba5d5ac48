"""Where to begin on a relay, and what is written down before the first frame is appended.

A relay's row in Postgres exists before anything of it is in the streams, with the seq up to which
nothing was asked for: so a rewind knows how far back it may have to go.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from engine import log
from engine.adapters import postgres, resp
from engine.roles.firehose import epoch as epochs
from engine.roles.firehose.epoch import Epoch, Stores

logger = logging.getLogger(__name__)

OLDEST, LIVE = "oldest", "live"


@dataclass(frozen=True)
class Start:
    """Where a relay is resumed."""

    epoch: Epoch
    generation: int
    cursor: int | None  # seq of the last frame held; None: whatever comes first, then `add_live`


async def begin(
    stores: Stores, host: str, initial: str, *, follows: bool = False, lost: bytes | None = None
) -> Start:
    """Agree on the epoch and find the relay's cursor.

    Args:
        stores: connections; no transaction is open.
        host: canonical name of the relay.
        initial: ``oldest``, ``live`` or a seq, for a relay that neither store knows.
        follows: the relay is read instead of others. `initial` then holds for the very first
            relay only, and another begins with the oldest it has: seqs say nothing of another
            relay's, and what is repeated is dropped while what is skipped is lost.
        lost: see `epochs.ensure`.

    Raises:
        SettingsError: the Redis belongs to another deployment.
        StoreUnavailable: a store is away or full.
    """
    redis, key = stores.redis, stores.keys.cursor(stores.source, host)
    async with postgres.translated_errors(), stores.db.transaction():
        row = await stores.db.fetchrow(stores.sql["relay_get"], host)
        first = None
        if row is None:
            first = await _first_seq(stores, host, initial, follows)
            if first is not None:
                await stores.db.execute(stores.sql["relay_add"], host, first)
                logger.info("new relay %s", log.fields(relay=host, cursor=first))
        epoch = await epochs.ensure_locked(stores, lost)
        if row is None and first is None:
            return Start(epoch, 1, None)
        cursor = None if row is None else _seq(await redis.command("GET", key))
        if row is not None and cursor is None:
            logger.warning("the cursor is gone from Redis %s", log.fields(relay=host))
            epoch = await epochs.ensure_locked(stores, epoch.mark)
            cursor = _seq(await redis.command("GET", key))
    if cursor is None:
        # After the row is durable: a cursor without its row would be taken for a legacy one.
        assert first is not None
        cursor = first
        await redis.command("SET", key, cursor)
    return Start(epoch, 1 if row is None else row["generation"], cursor)


async def add_live(stores: Stores, host: str, first_seq: int) -> None:
    """Write down where a relay that is read from now on began; before its first append."""
    async with postgres.translated_errors(), stores.db.transaction():
        await stores.db.execute(stores.sql["flushed"])
        await stores.db.execute(stores.sql["relay_add"], host, first_seq)
    await stores.redis.command("SET", stores.keys.cursor(stores.source, host), first_seq)
    logger.info("new relay %s", log.fields(relay=host, cursor=first_seq))


async def next_generation(
    stores: Stores, host: str, generation: int, cursor: int, reason: str
) -> None:
    """The relay counts anew: everything it has is asked for again, in a generation of its own.

    Postgres first: an old cursor in a new generation is refused by the relay once more, while a
    new cursor in an old generation would be taken for frames that are held already. Before that
    the old cursor goes: owners note the cursor as held by their quiet shards, in the generation
    that Postgres names at that moment.
    """
    async with postgres.translated_errors(), stores.db.transaction():
        await stores.db.execute(stores.sql["flushed"])
        await stores.redis.command("DEL", stores.keys.cursor(stores.source, host))
        await stores.db.execute(stores.sql["relay_gap_add"], host, generation, cursor, None, reason)
        following = await stores.db.fetchval(stores.sql["relay_next_generation"], host, generation)
    await stores.redis.command("SET", stores.keys.cursor(stores.source, host), 0)
    logger.error(
        "the relay's seqs started anew: reading everything it has again %s",
        log.fields(relay=host, reason=reason, cursor=cursor, generation=following),
    )


async def note_gap(
    stores: Stores, host: str, generation: int, after_seq: int, before_seq: int, reason: str
) -> None:
    """Write down that the relay no longer has the frames between two seqs.

    With the reason ``TakeOver`` that some of them may be missing: the relay was never read
    before, and its oldest event is younger than what was read of the relay before it.
    """
    async with postgres.translated_errors(), stores.db.transaction():
        await stores.db.execute(stores.sql["flushed"])
        await stores.db.execute(
            stores.sql["relay_gap_add"], host, generation, after_seq, before_seq, reason
        )
    logger.error(
        "frames are, or may be, missing: the relay no longer has them %s",
        log.fields(relay=host, reason=reason, after_seq=after_seq, before_seq=before_seq),
    )


async def _first_seq(stores: Stores, host: str, initial: str, follows: bool) -> int | None:
    """The cursor to begin with on a relay that Postgres does not know; None for live.

    A cursor may be there from a predecessor of this system, which named its keys by the relay as
    it was configured, with or without a scheme.
    """
    prefix = stores.keys.cursor(stores.source, "")
    spellings = [host, *(f"{scheme}://{host}" for scheme in ("https", "wss", "http", "ws"))]
    names = [f"{prefix}{name}{slash}" for name in spellings for slash in ("", "/")]
    for name, reply in zip(names, await stores.redis.command("MGET", *names), strict=True):
        seq = _seq(reply)
        if seq is not None:
            logger.info("adopting a cursor from Redis %s", log.fields(key=name, cursor=seq))
            return seq
    if follows and await stores.db.fetchval(stores.sql["relay_any"]):
        return 0
    if initial == LIVE:
        return None
    return 0 if initial == OLDEST else int(initial)


def _seq(reply: bytes | resp.ReplyError | None) -> int | None:
    """A stored seq; None for what is none."""
    if not isinstance(reply, bytes) or not reply.isdigit():
        return None
    seq = int(reply)
    return seq if seq <= epochs.MAX_SEQ else None
