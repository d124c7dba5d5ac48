"""One look-up of an identity: the question to the network, and the transaction of its answer.

Where two actors have one handle by two events, the one with the higher seq keeps it, in whatever
order they are looked up (``seat`` remembers it). After an hour the later look-up is the truer
one and no seq counts; seqs of two relays do not compare, so nobody goes without a handle for
longer by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from engine import errors
from engine.core import identity as rules

if TYPE_CHECKING:
    import asyncpg

    from engine.adapters import identity as resolvers
    from engine.adapters.handles import HandleResolver


class Due(msgspec.Struct, frozen=True):
    """One note: whom to look up, and which event asked."""

    did: str
    seq: int
    time: str  # verbatim
    attempts: int  # that failed
    forced: bool = True  # an event says that the document changed; else it is to be read at all


@dataclass(frozen=True)
class Lookup:
    """One question to the network: which handle does this DID have now?"""

    dids: resolvers.DidResolver
    handles: HandleResolver

    async def handle(self, due: Due, found: rules.Identity) -> str | None:
        """The DID's handle in lower case; None if it does not point back to the DID.

        Raises:
            UpstreamError: the handle's servers failed and may answer another time
                (``HANDLE_TRIES``).
        """
        answer = await self.handles.resolve(found.handle)
        if answer.did == due.did:
            return found.handle.lower()
        if answer.failure is not None and due.attempts + 1 < rules.HANDLE_TRIES:
            raise errors.UpstreamError(f"handle {found.handle}: {answer.failure}")
        return None


async def write(
    conn: asyncpg.Connection, statements: dict[str, str], due: Due, handle: str | None
) -> bool:
    """Write one success in a transaction of its own.

    Nothing is written for a DID that is no longer due: its account was deleted,
    or another process was faster. A handle that another has by a newer event is none.

    Returns:
        False if the DID is due again because of a newer event.

    Raises:
        asyncpg.UniqueViolationError: another writer took the handle meanwhile: write again.
    """
    async with conn.transaction():
        await conn.fetch(statements["identity_lock"], due.did, handle)
        if not await conn.fetchval(statements["identity_wanted"], due.did):
            return True
        if handle is not None:
            seat = (due.did, handle, due.seq)
            if await conn.fetchval(statements["identity_outranked"], *seat):
                handle = None
            else:
                await conn.execute(statements["identity_unseat"], due.did, handle)
                await conn.execute(statements["identity_keep_seat"], *seat)
        await conn.execute(statements["identity_seat"], due.did, handle, due.time)
        done: str = await conn.execute(statements["identity_done"], due.did, due.seq, due.time)
        return done == "DELETE 1"
