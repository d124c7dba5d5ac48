"""``headrace plc import``: a file of the directory's log into our table, once and in pieces.

A file is read as a stream, plain or gzip, and written in pieces of some ten thousand lines. What
a piece says, and how far the file is read, are one transaction: an import that is cut off goes on
behind the last piece, and a file that has grown since goes on at its old end. A file is known by
its beginning, and by the line before that place. Lines that cannot be read are named and cost
themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import logging
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from engine import failpoints, log
from engine.adapters import imported, postgres
from engine.core import plc
from engine.errors import SettingsError
from engine.ops import schema_state

if TYPE_CHECKING:
    import asyncpg

    from engine.settings import Settings

logger = logging.getLogger(__name__)

PIECE_LINES = 20_000
"""Lines in one transaction: some 20 MB of memory, twice, since the next is read meanwhile."""

TOLD_SECONDS = 10.0
"""Between two lines of progress."""

NAMED = 20
"""Lines that cannot be read and are named; the others are counted."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CUT_OFF = "cut off"


class Progress(msgspec.Struct):
    """How far a file is imported."""

    size: int = 0  # bytes, unpacked, up to the end of a line
    last_line: bytes = b""  # digest of the line before that place
    lines: int = 0
    nullified: int = 0
    bad: int = 0
    first_at: datetime | None = None  # earliest and latest operation
    last_at: datetime | None = None


@dataclass
class Piece:
    """Some lines, read, and how far that is."""

    progress: Progress
    operations: list[plc.Operation] = field(default_factory=list)
    bad: int = 0
    named: list[str] = field(default_factory=list)  # the first of the bad ones
    is_last: bool = False


@dataclass
class Found:
    """What an import came to."""

    progress: Progress = field(default_factory=Progress)
    before: Progress = field(default_factory=Progress)  # of this, by earlier imports
    bad: int = 0  # in this one
    named: list[str] = field(default_factory=list)  # the first of them
    new_cursor: bool = False  # the end of the log is read from this file's end on


class Reader:
    """The lines of a file, from where an earlier import ended; blocking, in bounded memory."""

    def __init__(self, stream: IO[bytes], clock: Callable[[], datetime]) -> None:
        """Read what is unpacked already."""
        self._stream = stream
        self._clock = clock
        self._first: tuple[bytes, int] | None = None
        self._first = self._line()
        self.head = _digest(self._first[0])
        self.progress = Progress()

    def go_to(self, known: Progress) -> bool:
        """Go on behind what is imported; False if it is another file, which is then used up."""
        left, line = known.size, b""
        while left > 0:
            line, size = self._line()
            if not size:
                return False
            left -= size
        grown = left == -1 and line.endswith(b"\n")  # its last line had no end yet
        if (left and not grown) or _digest(line) != known.last_line:
            return False
        self.progress = msgspec.structs.replace(known, size=known.size + grown)
        return True

    def piece(self, most: int = PIECE_LINES) -> Piece:
        """The next lines."""
        progress, now, last = self.progress, self._clock(), b""
        piece = Piece(progress)
        for _ in range(most):
            line, size = self._line()
            if not size:
                piece.is_last = True
                break
            wrong = self._take(piece, line, now)
            if wrong is not None:
                _name(piece.named, f"line {progress.lines + 1}: {wrong}: {_shown(line)}")
                piece.bad += 1
                if wrong == _CUT_OFF:  # when the rest has come, it is read again
                    piece.is_last = True
                    break
                progress.bad += 1
            progress.lines += 1
            progress.size += size
            last = line
        if last:
            progress.last_line = _digest(last)
        piece.progress = msgspec.structs.replace(progress)
        return piece

    def _take(self, piece: Piece, line: bytes, now: datetime) -> str | None:
        """Read one line; what is wrong with it."""
        if len(line) > plc.LINE_LIMIT_BYTES:
            return f"longer than {plc.LINE_LIMIT_BYTES} bytes"
        if not line.strip():
            return None
        try:
            operation = plc.read_line(line, now)
        except plc.BadLine as error:
            return str(error) if line.endswith(b"\n") else _CUT_OFF
        progress = self.progress
        if operation is None:
            progress.nullified += 1
            return None
        piece.operations.append(operation)
        at = operation.created_at
        progress.first_at = min(progress.first_at or at, at)
        progress.last_at = max(progress.last_at or at, at)
        return None

    def _line(self) -> tuple[bytes, int]:
        """The next line, its end cut off if it is too long, and its size; 0 at the end."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        line = part = self._stream.readline(plc.LINE_LIMIT_BYTES + 1)
        size = len(part)
        while len(part) > plc.LINE_LIMIT_BYTES and not part.endswith(b"\n"):
            part = self._stream.readline(plc.LINE_LIMIT_BYTES + 1)
            size += len(part)
        return line, size


async def run(
    settings: Settings,
    name: str,
    *,
    again: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Found:
    """Import a file; durable on return, and piece by piece before.

    Args:
        settings: of the deployment.
        name: of the file; ``-`` is the standard input.
        again: from the beginning, whatever was imported of it.
        clock: now.

    Raises:
        SettingsError: the file cannot be read, or not to its end; what was read is imported.
        StoreError: Postgres failed; running it again goes on.
    """
    conn = await postgres.connect(settings, "plc import")
    try:
        async with postgres.translated_errors():
            await schema_state.ensure_state(
                conn, settings.database_state_schema, settings.shard_count
            )
            await conn.execute("SET synchronous_commit = on")
            importing = _Import(conn, imported.statements(settings.database_state_schema), name)
            return await importing.run(again, clock)
    finally:
        conn.terminate()


@dataclass
class _Import:
    conn: asyncpg.Connection[Any]
    sql: dict[str, str]
    name: str
    found: Found = field(default_factory=Found)

    async def run(self, again: bool, clock: Callable[[], datetime]) -> Found:
        await self.conn.execute(self.sql["plc_buffer"])
        with _readable(self.name), contextlib.ExitStack() as stack:
            reader = await self._reader(stack, clock)
            row = await self.conn.fetchrow(self.sql["plc_progress"], reader.head)
            if row is not None and not again:
                known = Progress(**dict(row))
                if await asyncio.to_thread(reader.go_to, known):
                    self.found.before = known
                elif self.name == "-":
                    raise SettingsError("not what was imported before: read it with --again")
                else:
                    reader = await self._reader(stack, clock)
            await self._pieces(reader)
        return self.found

    async def _reader(self, stack: contextlib.ExitStack, clock: Callable[[], datetime]) -> Reader:
        def begin() -> Reader:
            return Reader(_open(stack, self.name), clock)

        return await asyncio.to_thread(begin)

    async def _pieces(self, reader: Reader) -> None:
        told, is_last = time.monotonic(), False
        reading = asyncio.ensure_future(asyncio.to_thread(reader.piece))
        try:
            while not is_last:
                piece = await reading
                is_last = piece.is_last
                if not is_last:
                    reading = asyncio.ensure_future(asyncio.to_thread(reader.piece))
                await self._write(piece, reader.head)
                self.found.bad += piece.bad
                for line in piece.named:
                    _name(self.found.named, line)
                if time.monotonic() - told >= TOLD_SECONDS:
                    told = time.monotonic()
                    progress = piece.progress
                    logger.info(
                        "importing %s",
                        log.fields(lines=progress.lines, bytes=progress.size, to=progress.last_at),
                    )
        finally:
            await asyncio.gather(reading, return_exceptions=True)  # a thread cannot be cancelled

    async def _write(self, piece: Piece, head: bytes) -> None:
        progress = self.found.progress = piece.progress
        async with self.conn.transaction():
            await imported.copy(self.conn, self.sql, plc.last_of_each(piece.operations))
            failpoints.passing("after_rows")
            await self.conn.execute(
                self.sql["plc_progressed"],
                head,
                self.name[:500],
                progress.size,
                progress.last_line,
                progress.lines,
                progress.nullified,
                progress.bad,
                progress.first_at,
                progress.last_at,
                piece.is_last,
            )
            if piece.is_last and progress.first_at is not None:
                times = (progress.first_at, progress.last_at)
                done = await self.conn.execute(self.sql["plc_imported_to"], *times)
                self.found.new_cursor = done == "UPDATE 1"
            failpoints.passing("before_commit")
        failpoints.passing("after_commit")


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line.rstrip(b"\n")).digest()


def _open(stack: contextlib.ExitStack, name: str) -> IO[bytes]:
    raw = sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))  # noqa: SIM115
    buffered = cast("io.BufferedReader", raw)
    magic = buffered.peek(4)[:4]
    if magic == _ZSTD:
        raise SettingsError(f"{name}: zstd; unpack it: zstd -dc FILE | headrace plc import -")
    if magic[:2] == _GZIP:
        return cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=buffered)))
    return buffered


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SettingsError(f"{name}: not whole: {error}; what came before is imported") from error
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror or error}") from error


def _name(named: list[str], line: str) -> None:
    if len(named) < NAMED:
        named.append(line)


def _shown(line: bytes) -> str:
    return line[:100].decode("utf-8", "replace").rstrip("\n")
