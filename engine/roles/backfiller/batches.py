"""Many callers, one statement: what waits is written together, and nothing lingers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AGAIN_SECONDS = 0.01
"""Until what could not be taken is tried again."""


class Batches(Generic[T, R]):
    """Takes single items and hands them on in batches, one batch at a time.

    ``write`` gets a batch and answers with one result an item, or None for what could not be
    taken now; that is tried again.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], Awaitable[Sequence[R | None]]], most: int = 500
    ) -> None:
        self._write = write
        self._most = most
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, item: T) -> R:
        """The result for one item, once its batch is written.

        Cancelled by its caller, an item may be written all the same.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._some.set()
        return await future

    async def run(self) -> None:
        """Write, until cancelled; raises what ``write`` raises.

        Whoever waits for a result then waits for ever: the caller cancels them too.
        """
        while True:
            await self._some.wait()
            await self._flush()
            if not self._waiting:
                self._some.clear()

    async def flush(self) -> None:
        """Write what waits now, in the end of a session; may be called when ``run`` has ended."""
        while self._waiting:
            await self._flush()

    async def _flush(self) -> None:
        count = min(len(self._waiting), self._most)
        taken = [self._waiting.popleft() for _ in range(count)]
        results = await self._write([item for item, _ in taken])
        refused = 0
        for (item, future), result in zip(taken, results, strict=True):
            if result is None:
                refused += 1
                self._waiting.append((item, future))
            elif not future.done():
                future.set_result(result)
        if refused and len(self._waiting) == refused:
            await asyncio.sleep(AGAIN_SECONDS)
