"""What the host of an account says of it: the host that its DID document names today."""

from __future__ import annotations

from engine.adapters.http import Fetcher, Response
from engine.adapters.identity import DidResolver, Unregistered
from engine.core import identity
from engine.errors import UpstreamError

ANSWER_LIMIT_BYTES = 16 * 1024
"""An answer has a few hundred bytes."""

_KNOWS_NOTHING = frozenset({"RepoNotFound", "MethodNotImplemented"})
"""Errors of ``getRepoStatus`` that no later attempt will change."""


class Hosting:
    """Asks where an account lives today, and how it is there. Nothing is cached."""

    def __init__(self, dids: DidResolver, fetcher: Fetcher, timeout_seconds: float = 5.0) -> None:
        self._dids = dids
        self._fetcher = fetcher
        self._timeout = timeout_seconds

    async def is_hosted(self, did: str) -> bool:
        """Whether the host that the DID's document names now has a repository of it.

        Without a document, or without a host in it, nobody has one.

        Raises:
            UpstreamError: nobody could tell: a server did not answer, or said something
                else than yes or ``RepoNotFound``.
        """
        answer = await self._ask(did, "getLatestCommit")
        if answer is None:
            return False
        if answer.status == 200:
            return True
        error = identity.error_of_xrpc(answer.body)
        if error == "RepoNotFound":
            return False
        raise _unclear(answer, error)

    async def says_active(self, did: str) -> bool:
        """Whether the host that the DID's document names now calls the account active.

        Not so where there is no such host, or it knows nothing of the account.

        Raises:
            UpstreamError: nobody could tell now.
        """
        answer = await self._ask(did, "getRepoStatus")
        if answer is None:
            return False
        if answer.status == 200:
            active = identity.active_of_xrpc(did, answer.body)
            if active is None:
                raise UpstreamError("the host's answer is not the status of this account")
            return active
        error = identity.error_of_xrpc(answer.body)
        if error in _KNOWS_NOTHING:
            return False
        raise _unclear(answer, error)

    async def _ask(self, did: str, method: str) -> Response | None:
        """The present host's answer; None if there is no such host."""
        try:
            pds = await self._dids.pds(did)
        except Unregistered:
            return None
        if pds is None:
            return None
        return await self._fetcher.get(
            f"{pds}/xrpc/com.atproto.sync.{method}",
            params={"did": did},
            max_bytes=ANSWER_LIMIT_BYTES,
            timeout_seconds=self._timeout,
        )


def _unclear(answer: Response, error: str | None) -> UpstreamError:
    return UpstreamError(f"{answer.url[:200]} answered {answer.status} {error or ''}".rstrip())
