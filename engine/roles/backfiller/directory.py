"""Where a DID lives and which key signs for it: asked once, remembered in Redis for a day.

What the directory's log told (`engine.adapters.imported`) is not asked for at all.

Several tasks that want the same DID ask once. What is remembered is dropped when the identity
role looks a DID up because of an event (`engine.adapters.remembered`), and passed over
(``fresh``) when a host or a signature says that it may be old.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.adapters import remembered, resp
from engine.core import codec, urls
from engine.core.identity import Keeper
from engine.errors import UpstreamError

if TYPE_CHECKING:
    from engine.adapters.imported import Imported
    from engine.core.streams import Keys


class Resolver(Protocol):
    """Reads documents; `engine.adapters.identity.DidResolver`."""

    async def keeper(self, did: str) -> Keeper:
        """Host and key in the DID's document as it is now."""


class Home(msgspec.Struct, frozen=True):
    """Who has a repository, and whose signature it carries."""

    pds: str  # origin
    key: str | None  # did:key; None: the document has none that can be used


class Homeless(UpstreamError):
    """The DID's document names no host that could be asked."""


@dataclass
class Counters:
    """Look-ups since the start."""

    hits: int = 0  # Redis knew it
    imported: int = 0  # the directory's log told it
    misses: int = 0
    refreshed: int = 0
    shared: int = 0  # waited for another task's look-up


@dataclass
class Directory:
    """Look-ups of one process; ``redis`` may be shared."""

    redis: resp.RespConnection
    keys: Keys
    resolver: Resolver
    counters: Counters
    imported: Imported | None = None
    _asking: dict[tuple[str, bool], asyncio.Task[Home]] = field(default_factory=dict)

    async def home(self, did: str, *, fresh: bool = False) -> Home:
        """The DID's home.

        Args:
            did: whose.
            fresh: pass over what is remembered.

        Raises:
            Unregistered: there is no such DID.
            Homeless: it names no host.
            UpstreamError: the directory could not be asked.
            StoreError: Redis failed.
        """
        asked = (did, fresh)
        task = self._asking.get(asked)
        if task is None:
            task = asyncio.create_task(self._home(did, fresh))
            self._asking[asked] = task
            task.add_done_callback(lambda done: self._forget(asked, done))
        else:
            self.counters.shared += 1
        return await asyncio.shield(task)

    def _forget(self, asked: tuple[str, bool], task: asyncio.Task[Home]) -> None:
        del self._asking[asked]
        if not task.cancelled():
            task.exception()  # whoever waited has it

    async def _home(self, did: str, fresh: bool) -> Home:
        if not fresh:
            known = await remembered.recall(self.redis, self.keys, did)
            if known is not None:
                self.counters.hits += 1
                return Home(*known)
            told = await self.imported.operation(did) if self.imported else None
            if told is not None:
                with contextlib.suppress(Homeless):  # a "no" is the directory's to say
                    home = home_of(
                        Keeper(told.pds, ("Multikey", told.key[8:]) if told.key else None)
                    )
                    self.counters.imported += 1
                    return home
        self.counters.misses += 1
        self.counters.refreshed += fresh
        home = home_of(await self.resolver.keeper(did))
        await remembered.keep(self.redis, self.keys, did, home.pds, home.key)
        return home


def home_of(keeper: Keeper) -> Home:
    """What is used of a document.

    Raises:
        Homeless: it names no host that could be asked.
    """
    try:
        pds = urls.origin(keeper.pds or "")
    except ValueError as error:
        raise Homeless("the DID document names no host that can be asked") from error
    return Home(pds, codec.did_key(*keeper.key) if keeper.key else None)
