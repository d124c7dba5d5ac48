"""``headrace plc import``: files of the directory's log, whole, cut off, grown, and wrong."""

from __future__ import annotations

import gzip
import io
import random
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from engine import cli
from engine.errors import SettingsError
from engine.ops import plc_import
from engine.settings import Settings
from engine.simulate import directory

SELECT = "SELECT did, handle, key, pds FROM headrace.plc ORDER BY did"


def did(number: int) -> str:
    return f"did:plc:{number:024d}"


def at(number: int) -> str:
    return f"2025-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000Z"


def operation(number: int, when: int, *, nullified: bool = False) -> bytes:
    document = {
        "id": did(number),
        "alsoKnownAs": [f"at://h{when}.test"],
        "verificationMethod": [
            {"id": "#atproto", "type": "Multikey", "publicKeyMultibase": f"zKey{when}"}
        ],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": f"https://pds{when}.test",
            }
        ],
    }
    return orjson.dumps(directory.operation(document, at(when), nullified=nullified)) + b"\n"


def tombstone(number: int, when: int) -> bytes:
    return orjson.dumps(directory.tombstone(did(number), at(when))) + b"\n"


def row(number: int, when: int | None) -> tuple[Any, ...]:
    if when is None:
        return (did(number), None, None, None)
    return (did(number), f"h{when}.test", f"did:key:zKey{when}", f"https://pds{when}.test")


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(database_url=database)


@pytest.fixture
async def db(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    conn = await asyncpg.connect(database)
    yield conn
    await conn.close()


def write(path: Path, lines: Sequence[bytes]) -> str:
    path.write_bytes(b"".join(lines))
    return str(path)


async def rows(db: asyncpg.Connection[Any]) -> list[tuple[Any, ...]]:
    return [tuple(each) for each in await db.fetch(SELECT)]


async def test_the_last_operation_that_is_not_nullified_is_the_document(
    settings: Settings, db: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    lines = [
        operation(1, 10),
        operation(1, 11, nullified=True),
        operation(2, 12),
        tombstone(2, 13),
        operation(3, 15),
        tombstone(4, 16),
        operation(4, 17),
        operation(3, 14),
    ]
    found = await plc_import.run(settings, write(tmp_path / "log", lines))
    assert await rows(db) == [row(1, 10), row(2, None), row(3, 15), row(4, 17)]
    assert (found.progress.lines, found.progress.nullified, found.bad) == (8, 1, 0)


async def test_many_pieces_in_any_order_end_alike(
    settings: Settings,
    db: asyncpg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plc_import.Reader.piece, "__defaults__", (100,))
    dice = random.Random(3)
    last: dict[int, int] = {}
    lines = []
    for when in range(3000):
        number = dice.randrange(500)
        last[number] = when
        lines.append(operation(number, when))
    dice.shuffle(lines)
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(b"".join(lines)))
    found = await plc_import.run(settings, str(packed))
    assert found.progress.lines == 3000
    assert await rows(db) == [row(number, last[number]) for number in sorted(last)]


async def test_a_bad_line_is_named_and_costs_itself(
    settings: Settings, db: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    lines = [
        operation(1, 1),
        b"nonsense\n",
        b"\n",
        b'{"x":"' + b"y" * 200_000 + b'"}\n',
        operation(2, 2),
    ]
    found = await plc_import.run(settings, write(tmp_path / "log", lines))
    assert await rows(db) == [row(1, 1), row(2, 2)]
    assert found.bad == found.progress.bad == 2
    assert found.named[0].startswith("line 2: JSON is malformed")
    assert found.named[0].endswith("nonsense")
    assert found.named[1].startswith("line 4: longer than 65536 bytes")
    again = await plc_import.run(settings, str(tmp_path / "log"))
    assert (again.bad, again.before.lines, again.progress.lines) == (0, 5, 5)


async def test_an_import_goes_on_where_it_was_cut_off(
    settings: Settings,
    db: asyncpg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plc_import.Reader.piece, "__defaults__", (10,))
    lines = [operation(number, number) for number in range(95)]
    name = write(tmp_path / "log", lines)
    writing = plc_import._Import._write
    written = 0

    async def fail(self: Any, piece: plc_import.Piece, head: bytes) -> None:
        nonlocal written
        if written == 4:
            raise ConnectionError
        await writing(self, piece, head)
        written += 1

    with monkeypatch.context() as patch:
        patch.setattr(plc_import._Import, "_write", fail)
        with pytest.raises(SettingsError):
            await plc_import.run(settings, name)
    assert await db.fetchval("SELECT count(*) FROM headrace.plc") == 40
    assert await db.fetchval("SELECT read_to FROM headrace.plc_log") is None
    found = await plc_import.run(settings, name)
    assert (found.before.lines, found.progress.lines) == (40, 95)
    assert await rows(db) == [row(number, number) for number in range(95)]


async def test_a_file_that_has_grown_goes_on_at_its_old_end(
    settings: Settings, db: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    lines = [operation(number, number) for number in range(20)]
    whole = b"".join(lines)
    cut = len(b"".join(lines[:12])) - 30  # inside of the twelfth line
    path = tmp_path / "log"
    path.write_bytes(whole[:cut])
    found = await plc_import.run(settings, str(path))
    assert (found.progress.lines, found.bad) == (11, 1)
    assert found.named[0].startswith("line 12: cut off")
    path.write_bytes(whole.rstrip(b"\n"))  # as /export ends
    found = await plc_import.run(settings, str(path))
    assert (found.before.lines, found.progress.lines, found.bad) == (11, 20, 0)
    path.write_bytes(whole + operation(21, 21))
    found = await plc_import.run(settings, str(path))
    assert (found.before.lines, found.bad) == (20, 0)
    assert [each[0] for each in await rows(db)] == [did(n) for n in (*range(20), 21)]


async def test_another_file_that_begins_alike_is_read_from_its_beginning(
    settings: Settings,
    db: asyncpg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = write(tmp_path / "first", [operation(1, 1), operation(2, 2)])
    other = write(tmp_path / "other", [operation(1, 1), operation(3, 30), operation(2, 40)])
    await plc_import.run(settings, first)
    found = await plc_import.run(settings, other)
    assert found.before.lines == 0
    assert await rows(db) == [row(1, 1), row(2, 40), row(3, 30)]
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(Path(first).read_bytes())))
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(SettingsError, match="--again"):
        await plc_import.run(settings, "-")


async def test_again_reads_everything_and_changes_nothing(
    settings: Settings, db: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    name = write(tmp_path / "log", [operation(n % 5, n) for n in range(50)])
    await plc_import.run(settings, name)
    before = await db.fetch("SELECT *, xmin FROM headrace.plc ORDER BY did")
    found = await plc_import.run(settings, name, again=True)
    assert (found.before.lines, found.progress.lines) == (0, 50)
    assert await db.fetch("SELECT *, xmin FROM headrace.plc ORDER BY did") == before
    assert len(before) == 5


async def test_the_cursor_goes_on_only_where_nothing_is_missing(
    settings: Settings, db: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    async def cursor() -> str:
        query = "SELECT to_char(read_to AT TIME ZONE 'UTC', 'HH24:MI:SS') FROM headrace.plc_log"
        return str(await db.fetchval(query))

    for name, times, moved, expected in (
        ("first", (10, 20), True, "00:00:20"),
        ("behind a hole", (30, 40), False, "00:00:20"),
        ("older", (5, 15), False, "00:00:20"),
        ("next", (20, 35), True, "00:00:35"),
    ):
        lines = [operation(1, time) for time in times]
        found = await plc_import.run(settings, write(tmp_path / name, lines))
        assert (found.new_cursor, await cursor()) == (moved, expected), name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(b"".join(operation(n, n) for n in range(99)))[:-20], "not whole"),
        (b"\x1f\x8bnonsense", "not whole"),
        (b"\x28\xb5\x2f\xfdnonsense", "zstd -dc"),
    ],
    ids=["cut off", "damaged", "zstd"],
)
async def test_a_file_that_cannot_be_read_is_named(
    settings: Settings, tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=words):
        await plc_import.run(settings, str(path))
    with pytest.raises(SettingsError, match="No such file"):
        await plc_import.run(settings, str(tmp_path / "absent"))


async def test_an_empty_file_is_no_import(
    settings: Settings, db: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    found = await plc_import.run(settings, write(tmp_path / "log", []))
    assert (found.progress.lines, found.new_cursor) == (0, False)
    assert await db.fetchval("SELECT read_to FROM headrace.plc_log") is None


def test_the_command_tells_what_it_did(
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    name = write(tmp_path / "log", [operation(1, 1), operation(1, 2, nullified=True)])
    assert cli.main(["plc", "import", name]) == 0
    out = capsys.readouterr().out
    assert "2 lines, 1 nullified, 0 bad; 0 were imported before" in out
    assert "up to 2025-01-01T00:00:01+00:00; reading the directory's log goes on there" in out
    write(tmp_path / "bad", [b"x\n", operation(1, 1)])
    assert cli.main(["plc", "import", str(tmp_path / "bad")]) == 1
    assert cli.main(["plc", "import", str(tmp_path / "absent")]) == 2


def test_memory_is_bounded_by_pieces() -> None:
    """A piece holds no more than its lines, and a line no more than its limit."""

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"x" * len(buffer)
            self.given = getattr(self, "given", 0) + len(buffer)
            return 0 if self.given > 50_000_000 else len(buffer)

    reader = plc_import.Reader(io.BufferedReader(Endless()), lambda: datetime.now(UTC))
    piece = reader.piece()
    assert piece.bad == 1
    assert piece.progress.size > 40_000_000
    assert len(piece.named[0]) < 1000
