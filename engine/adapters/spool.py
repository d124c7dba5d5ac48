"""Bodies of unknown size: in memory while they are small, in a file when they are not.

What all bodies together hold in memory is bounded too: beyond it even a small one goes
to a file. Files are private to one process, which empties its folder when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from engine.errors import StoreUnavailable

WRITE_BYTES = 1 << 20
"""Gathered before they are written to a file, away from the event loop."""


class Spool:
    """Where the bodies of one process go.

    Args:
        folder: of this process alone: it is emptied now, and made when it is needed.
        body_bytes: a larger body goes to a file.
        all_bytes: what all bodies in memory may hold together.
    """

    def __init__(self, folder: Path, *, body_bytes: int, all_bytes: int) -> None:
        self.body_bytes = body_bytes
        self.all_bytes = all_bytes
        self.in_memory = 0
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)

    def has_room(self, size: int, more: int) -> bool:
        """Whether a body of ``size`` bytes in memory may grow by ``more``."""
        return size + more <= self.body_bytes and self.in_memory + more <= self.all_bytes

    def file(self) -> tuple[BinaryIO, Path]:
        """A new, empty file.

        Raises:
            StoreUnavailable: the disk is full, or the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder)
        except OSError as error:
            raise StoreUnavailable(f"{self._folder}: {error.strerror}") from error
        return os.fdopen(handle, "wb", buffering=0), Path(name)

    def close(self) -> None:
        """Remove what is left."""
        shutil.rmtree(self._folder, ignore_errors=True)


class Body:
    """A whole body: ``data``, or the file ``path``. ``close`` lets go of it."""

    def __init__(self, spool: Spool, size: int, data: bytes | None, path: Path | None) -> None:
        self.size = size
        self.data = data
        self.path = path
        self._spool = spool

    def close(self) -> None:
        """Give memory back, remove the file. May be called again."""
        if self.data is not None:
            self._spool.in_memory -= self.size
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.data = self.path = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self.close()


class Sink:
    """Takes a body in pieces. What is not handed over by ``body`` goes with the context."""

    def __init__(self, spool: Spool) -> None:
        self.size = 0
        self._spool = spool
        self._pieces: list[bytes] = []
        self._pending = 0  # bytes in the pieces, counted as memory
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    async def write(self, piece: bytes) -> None:
        """Add a piece.

        Raises:
            StoreUnavailable: the disk is full.
        """
        if self._file is None and not self._spool.has_room(self._pending, len(piece)):
            self._file, self._path = self._spool.file()
        self._pieces.append(piece)
        self._pending += len(piece)
        self._spool.in_memory += len(piece)
        self.size += len(piece)
        if self._file is not None and self._pending >= WRITE_BYTES:
            await self._flush(self._file)

    async def body(self) -> Body:
        """The whole of it, to be closed by the caller."""
        if self._file is None:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces, self._pending = [], 0  # the memory is the body's now
            return Body(self._spool, self.size, data, None)
        await self._flush(self._file)
        self._file.close()
        path, self._path = self._path, None
        return Body(self._spool, self.size, None, path)

    async def _flush(self, file: BinaryIO) -> None:
        data = b"".join(self._pieces)
        self._drop()
        view = memoryview(data)
        while view:
            try:
                view = view[await asyncio.to_thread(file.write, view) :]
            except OSError as error:
                raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def _drop(self) -> None:
        self._spool.in_memory -= self._pending
        self._pieces, self._pending = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._drop()
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
