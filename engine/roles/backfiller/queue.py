"""The queue of repositories to fetch: a stream with a consumer group.

An entry belongs to the process that it was given to, until it is finished: what the process had
when it died is given to it again when it comes back under its name, or to another that claims it
after ``IDLE_SECONDS``. Whoever works longer says so in between. An entry leaves the queue (XACK
and XDEL in one MULTI) only when what became of it is stored, so its length falls with each.

A group that is gone is made again; what other processes had in hand comes again then, which the
fetch ids make harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from engine.adapters import resp
from engine.core import streams
from engine.errors import StoreUnavailable

IDLE_SECONDS = 300.0
"""An entry whose owner said nothing for this long may be taken by another."""

CLAIM_COUNT = 100
"""Looked at in one step of the claim."""

_IDLE_MS = int(IDLE_SECONDS * 1000)


class Item(msgspec.Struct, frozen=True):
    """One entry of the queue."""

    entry_id: str
    did: str  # empty: the entry names none
    raw: bytes
    deliveries: int  # times that it was given to somebody, this time too


class _Repo(msgspec.Struct):
    did: str


_decoder = msgspec.json.Decoder(_Repo)


class Queue:
    """The consumer of one process. Not shared among tasks, but for ``finish`` and ``hold``."""

    def __init__(
        self, redis: resp.RespConnection, reading: resp.RespConnection, key: str, consumer: str
    ) -> None:
        """Work over two connections: one for commands, one that waits for new entries."""
        self._redis = redis
        self._reading = reading
        self._key = key
        self._consumer = consumer
        self._own: str | None = "0"  # where our own pending entries go on; None: all were read
        self._claim_from = "0-0"

    async def prepare(self) -> None:
        """Make the group where it is missing; not otherwise, for a full Redis refuses that."""
        try:
            groups = await self._redis.command("XINFO", "GROUPS", self._key)
        except resp.ReplyError:
            groups = []
        names = [_fields(group).get(b"name") for group in groups]
        if streams.QUEUE_GROUP.encode() in names:
            return
        try:
            await self._redis.command(
                "XGROUP", "CREATE", self._key, streams.QUEUE_GROUP, "0", "MKSTREAM"
            )
        except resp.ReplyError as error:
            if error.code == "BUSYGROUP":
                return
            if error.code == "OOM":
                raise StoreUnavailable(f"Redis is full: {error}") from error
            raise

    async def read(self, count: int, block_ms: int) -> list[Item]:
        """Entries for us: those that we had before first, then new ones.

        Waits up to ``block_ms`` for new ones; none are then given.
        """
        if self._own is not None:
            items = await self._read_own(count)
            if items:
                return items
        return await self._ask(
            self._reading, "COUNT", count, "BLOCK", block_ms, "STREAMS", self._key, ">"
        )

    async def _read_own(self, count: int) -> list[Item]:
        found = await self._ask(self._redis, "COUNT", count, "STREAMS", self._key, self._own or "0")
        self._own = found[-1].entry_id if found else None
        gone = [item.entry_id for item in found if not item.raw]
        if gone:
            await self.finish(gone)
        return await self._counted([item for item in found if item.raw])

    async def _ask(self, redis: resp.RespConnection, *words: resp.Argument) -> list[Item]:
        command = resp.pack("XREADGROUP", "GROUP", streams.QUEUE_GROUP, self._consumer, *words)
        (reply,) = await redis.execute(command, 1)
        if isinstance(reply, resp.ReplyError) and reply.code in ("NOGROUP", "UNBLOCKED"):
            # Or the stream itself is gone, even while we waited at it.
            await self.prepare()
            return []
        found = redis.checked(reply)
        return [_item(entry) for _, entries in found or [] for entry in entries]

    async def claim(self, count: int) -> list[Item]:
        """Take entries whose owners are silent; going on through the whole queue, call by call."""
        command = resp.pack(
            "XAUTOCLAIM",
            self._key,
            streams.QUEUE_GROUP,
            self._consumer,
            _IDLE_MS,
            self._claim_from,
            "COUNT",
            min(count, CLAIM_COUNT),
        )
        (reply,) = await self._redis.execute(command, 1)
        if isinstance(reply, resp.ReplyError) and reply.code == "NOGROUP":
            await self.prepare()
            return []
        following, entries, *_ = self._redis.checked(reply)
        self._claim_from = following.decode()
        return await self._counted([_item(entry) for entry in entries])

    @property
    def is_claimed_through(self) -> bool:
        """Whether the last claim came to the end of the queue."""
        return self._claim_from == "0-0"

    async def hold(self, entry_ids: Iterable[str]) -> None:
        """Say that we still work on these. What others took from us meanwhile stays theirs."""
        wanted = list(entry_ids)
        if not wanted:
            return
        pending = await self._pending(len(wanted) * 2 + 100)
        ours = [entry_id for entry_id in wanted if entry_id in pending]
        if ours:
            await self._claim_again(ours, 0)

    async def finish(self, entry_ids: Sequence[str]) -> None:
        """These are done with, whatever became of them: that must be stored already."""
        if not entry_ids:
            return
        commands = (
            resp.pack("MULTI"),
            resp.pack("XACK", self._key, streams.QUEUE_GROUP, *entry_ids),
            resp.pack("XDEL", self._key, *entry_ids),
            resp.pack("EXEC"),
        )
        replies = await self._redis.execute(b"".join(commands), len(commands))
        for reply in replies:
            self._redis.checked(reply)

    async def leave(self, entry_ids: Iterable[str]) -> None:
        """We stop: what we hold may be taken at once; with nothing pending our name goes too."""
        held = list(entry_ids)
        if held:
            await self._claim_again(held, _IDLE_MS)
        if not await self._pending(1):
            (reply,) = await self._redis.execute(
                resp.pack("XGROUP", "DELCONSUMER", self._key, streams.QUEUE_GROUP, self._consumer),
                1,
            )
            if not isinstance(reply, resp.ReplyError):
                self._redis.checked(reply)

    async def _claim_again(self, entry_ids: Sequence[str], idle_ms: int) -> None:
        command = resp.pack(
            "XCLAIM",
            self._key,
            streams.QUEUE_GROUP,
            self._consumer,
            0,
            *entry_ids,
            "IDLE",
            idle_ms,
            "JUSTID",
        )
        (reply,) = await self._redis.execute(command, 1)
        if isinstance(reply, resp.ReplyError) and reply.code == "NOGROUP":
            await self.prepare()
            return
        self._redis.checked(reply)

    async def _pending(self, count: int) -> set[str]:
        """Ids of entries that are ours as Redis has it."""
        command = resp.pack(
            "XPENDING", self._key, streams.QUEUE_GROUP, "-", "+", count, self._consumer
        )
        (reply,) = await self._redis.execute(command, 1)
        if isinstance(reply, resp.ReplyError) and reply.code == "NOGROUP":
            return set()
        return {row[0].decode() for row in self._redis.checked(reply)}

    async def _counted(self, items: list[Item]) -> list[Item]:
        """The same items with how often each was delivered."""
        if not items:
            return []
        asked = [
            resp.pack("XPENDING", self._key, streams.QUEUE_GROUP, item.entry_id, item.entry_id, 1)
            for item in items
        ]
        counted = []
        replies = await self._redis.execute(asked, len(asked))
        for item, reply in zip(items, replies, strict=True):
            row = self._redis.checked(reply)
            deliveries = int(row[0][3]) if row else 1
            counted.append(msgspec.structs.replace(item, deliveries=deliveries))
        return counted


def _item(entry: Any) -> Item:
    entry_id, fields = entry[0].decode(), entry[1]
    if fields is None:
        return Item(entry_id, "", b"", 1)
    raw: bytes = _fields(fields).get(streams.QUEUE_FIELD.encode(), b"")
    try:
        did = _decoder.decode(raw).did
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # As an operator may have pushed it by hand.
        did = raw.decode("utf-8", "replace").strip() if raw.startswith(b"did:") else ""
    return Item(entry_id, did, raw or b"(no field `repo`)", 1)


def _fields(flat: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=False))
