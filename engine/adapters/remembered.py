"""What Redis remembers of DID documents: host and signing key, both or none, for a day."""

from __future__ import annotations

from collections.abc import Iterable

from engine.adapters import resp
from engine.core.streams import Keys

REMEMBERED_SECONDS = 86_400


async def recall(redis: resp.RespConnection, keys: Keys, did: str) -> tuple[str, str | None] | None:
    """Host and ``did:key`` of a DID, the latter None if its document has none; None: not known.

    Raises:
        StoreError: Redis failed.
    """
    key, pds = await redis.command("MGET", keys.did_key(did), keys.did_pds(did))
    if key is None or pds is None:
        return None
    return pds.decode("utf-8", "replace"), key.decode("utf-8", "replace") or None


async def keep(redis: resp.RespConnection, keys: Keys, did: str, pds: str, key: str | None) -> None:
    """Remember what a document said; a Redis that is full remembers nothing, and that is all.

    Raises:
        StoreUnavailable: Redis is away.
    """
    commands = [
        resp.pack("MULTI"),
        resp.pack("SET", keys.did_key(did), key or "", "EX", REMEMBERED_SECONDS),
        resp.pack("SET", keys.did_pds(did), pds, "EX", REMEMBERED_SECONDS),
        resp.pack("EXEC"),
    ]
    await redis.execute(commands, len(commands))


async def forget(redis: resp.RespConnection, keys: Keys, dids: Iterable[str]) -> None:
    """Ask the directory again for these.

    Raises:
        StoreError: Redis failed.
    """
    names = [name for did in dids for name in (keys.did_key(did), keys.did_pds(did))]
    if names:
        await redis.command("DEL", *names)
