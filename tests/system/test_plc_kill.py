"""Kill -9 between rows and cursor, of an import of the directory's log and of who reads its end."""

from __future__ import annotations

import asyncio
import gzip
import random
import signal
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import redis

from engine import failpoints, simulate
from engine.core import plc
from engine.ops import plc_import
from engine.simulate import MemoryFrames, Network, directory
from tests.system.deployment import Process

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
SIZE = 50
"""Lines of a piece and of a page, where the test does not take long."""

SMALL = f"""
import sys
from engine import cli
from engine.core import plc
from engine.ops import plc_import
from engine.roles import plc_tail
plc_import.Reader.piece.__defaults__ = ({SIZE},)
plc.PAGE = {SIZE}
plc_tail.REQUEST_SECONDS = 0.0
sys.exit(cli.main(sys.argv[1:]))
"""
"""The command with small pieces and pages, one after the other."""

Row = tuple[str, datetime, str | None, str | None, str | None]
Line = dict[str, Any]


def did(number: int) -> str:
    return f"did:plc:{number:024d}"


def log_of(seed: int, count: int) -> list[Line]:
    """Operations in order: many of an instant, some void, tombstones, some that say nothing."""
    dice = random.Random(seed)
    lines: list[Line] = []
    now, seen = BEGIN, set[int]()
    while len(lines) < count:
        if dice.random() < 0.4:
            now, seen = now + timedelta(milliseconds=dice.choice((1, 1, 7))), set()
        number = dice.randrange(count // 3)
        if number in seen or now == BEGIN:
            continue
        seen.add(number)
        at, kind = plc.instant(now), dice.random()
        if kind < 0.05:
            lines.append(directory.line(did(number), {"type": "what"}, at))
        elif kind < 0.15:
            lines.append(directory.tombstone(did(number), at))
        else:
            made = document(number, len(lines))
            lines.append(directory.operation(made, at, nullified=kind > 0.95))
    return lines


def document(number: int, version: int) -> Line:
    service = {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": f"https://pds{version}.test",
    }
    key = {"id": "#atproto", "type": "Multikey", "publicKeyMultibase": f"zKey{version}"}
    return {
        "id": did(number),
        "alsoKnownAs": [f"at://h{version}.test"],
        "verificationMethod": [key],
        "service": [service],
    }


def counts(line: Line) -> bool:
    return not line["nullified"] and line["operation"]["type"] != "what"


def instant(line: Line) -> datetime:
    return datetime.fromisoformat(line["createdAt"])


def rows_of(lines: Iterable[Line]) -> set[Row]:
    """What the table must hold after these: of each DID the last operation."""
    last: dict[str, Line] = {}
    for line in filter(counts, lines):
        known = last.get(line["did"])
        if known is None or instant(known) < instant(line):
            last[line["did"]] = line
    return {_row(line) for line in last.values()}


def _row(line: Line) -> Row:
    made = line["operation"]
    if made["type"] == "plc_tombstone":
        return line["did"], instant(line), None, None, None
    handle = made["alsoKnownAs"][0].removeprefix("at://")
    key, pds = made["verificationMethods"]["atproto"], made["services"]["atproto_pds"]
    return line["did"], instant(line), handle, key, pds["endpoint"]


@dataclass
class Scene:
    """The database, and processes that work on it."""

    db: asyncpg.Connection[Any]
    environ: dict[str, str]
    folder: Path

    async def rows(self) -> set[Row]:
        found = await self.db.fetch("SELECT did, created_at, handle, key, pds FROM headrace.plc")
        return {tuple(row) for row in found}

    async def cursor(self) -> datetime | None:
        found: datetime | None = await self.db.fetchval("SELECT read_to FROM headrace.plc_log")
        return found

    def process(self, *arguments: str, failpoint: str = "", small: bool = True) -> Process:
        environ = {**self.environ, failpoints.VARIABLE: failpoint}
        made = Process(
            arguments, environ, self.folder / ("killed.log" if failpoint else "next.log")
        )
        if small:
            made.program = ("-c", SMALL)
        return made

    async def ended(self, run: Process) -> int:
        return await asyncio.to_thread(run.wait, 60)

    async def killed(self, run: Process, point: str) -> None:
        """Wait until it has killed itself there."""
        with run:
            assert await self.ended(run) == -signal.SIGKILL, run.tail()
        assert run.says(f"failpoint {point} reached")


@pytest.fixture
async def scene(database: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    db = await asyncpg.connect(database)
    environ = {"DATABASE_URL": database, "REDIS_URL": redis_url, "DATA_DIR": str(tmp_path)}
    yield Scene(db, environ, tmp_path)
    await db.close()


def text_of(lines: Sequence[Line]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


async def import_through_a_kill(
    scene: Scene, lines: Sequence[Line], file: Path, *, asked: tuple[str, int], size: int
) -> None:
    """An import that dies at a point of a piece, and the one that follows."""
    (point, piece), is_small = asked, size == SIZE
    arguments = ("plc", "import", str(file))
    await scene.killed(
        scene.process(*arguments, failpoint=f"plc_import:{point}:{piece}:kill", small=is_small),
        point,
    )
    whole = piece if point == "after_commit" else piece - 1
    before = min(whole * size, len(lines))
    assert await scene.rows() == rows_of(lines[:before])
    told = await scene.db.fetchval("SELECT lines FROM headrace.plc_import")
    assert (told or 0) == before
    end = max(map(instant, filter(counts, lines)))
    assert await scene.cursor() == (end if before == len(lines) else None)
    run = scene.process(*arguments, small=is_small)
    with run:
        assert await scene.ended(run) in (0, 1), run.tail()
    assert run.says(f"{len(lines) - before} lines, ")
    assert run.says(f"; {before} were imported before")
    assert await scene.rows() == rows_of(lines)
    assert await scene.cursor() == end
    (progress,) = await scene.db.fetch("SELECT lines, nullified, bad FROM headrace.plc_import")
    nullified = sum(line["nullified"] for line in lines)
    bad = sum(line["operation"]["type"] == "what" for line in lines)
    assert tuple(progress) == (len(lines), nullified, bad)
    assert min(nullified, bad) > 0


IMPORTED = 7 * SIZE + 30


@pytest.mark.parametrize(
    ("point", "piece"),
    [
        *((point, 4) for point in failpoints.POINTS["plc_import"]),
        *(
            pytest.param(point, piece, marks=pytest.mark.slow)
            for point in failpoints.POINTS["plc_import"]
            for piece in (1, 8)
        ),
    ],
)
async def test_an_import_that_is_killed_loses_nothing_and_its_cursor_is_not_ahead(
    scene: Scene, tmp_path: Path, point: str, piece: int
) -> None:
    lines = log_of(piece, IMPORTED)
    random.Random(piece).shuffle(lines)
    file = tmp_path / "log"
    file.write_bytes(text_of(lines))
    await import_through_a_kill(scene, lines, file, asked=(point, piece), size=SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("point", failpoints.POINTS["plc_import"])
async def test_so_does_one_of_real_size(scene: Scene, tmp_path: Path, point: str) -> None:
    lines = log_of(2, 2 * plc_import.PIECE_LINES + 1000)
    file = tmp_path / "log.gz"
    file.write_bytes(gzip.compress(text_of(lines), 1))
    await import_through_a_kill(scene, lines, file, asked=(point, 2), size=plc_import.PIECE_LINES)


def behind(lines: Iterable[Line], rows: set[Row], cursor: datetime) -> int:
    """How many operations are behind the cursor; each, or a later one of its DID, is a row."""
    known = {row[0]: row[1] for row in rows}
    passed = [line for line in lines if counts(line) and instant(line) <= cursor]
    missing = [line for line in passed if known.get(line["did"], BEGIN) < instant(line)]
    assert missing == []
    return len(passed)


async def tail_through_a_kill(
    scene: Scene, lines: list[Line], *, asked: tuple[str, int], size: int, is_small: bool
) -> None:
    """Who reads the log's end dies at a point of a page, and its successor reads on."""
    point, page = asked
    await scene.db.execute("UPDATE headrace.plc_log SET read_to = $1", BEGIN)
    with redis.Redis.from_url(scene.environ["REDIS_URL"]) as client:
        for name in {line["did"] for line in lines}:
            client.mset({f"did:key:{name}": "did:key:zOld", f"did:pds:{name}": "https://old.test"})
        async with simulate.serve(Network(MemoryFrames(), operations=lines)) as server:
            scene.environ |= server.settings | {"IDENTITY_PLC_TAIL_INTERVAL_SECONDS": "0.1"}
            failpoint = f"identity:{point}:{page}:kill"
            await scene.killed(
                scene.process("run", "identity", failpoint=failpoint, small=is_small), point
            )
            rows, cursor = await scene.rows(), await scene.cursor()
            assert cursor is not None
            whole = page if point == "after_commit" else page - 1
            # Lines that say nothing are no rows, and what is of a page's last instant comes twice.
            assert whole * size * 0.6 <= behind(lines, rows, cursor) <= whole * size
            assert all(row[1] <= cursor + timedelta(milliseconds=1) for row in rows)
            assert await scene.db.fetchval("SELECT current_at IS NULL FROM headrace.plc_log")
            run = scene.process("run", "identity", small=is_small)
            with run:
                async with asyncio.timeout(60):
                    query = "SELECT current_at IS NOT NULL FROM headrace.plc_log"
                    while not await scene.db.fetchval(query):
                        await asyncio.sleep(0.02)
        assert await scene.rows() == rows_of(lines)
        # Nothing is remembered of what a page told anew, whoever took it.
        told = {line["did"] for line in lines if counts(line)}
        kept = {key.decode().rpartition("did:plc:")[2] for key in client.keys("did:*")}
        assert kept.isdisjoint(name.removeprefix("did:plc:") for name in told)
    assert len(rows_of(lines)) > len(lines) / 6


@pytest.mark.parametrize("point", failpoints.POINTS["identity"])
async def test_a_tail_that_is_killed_loses_nothing_and_its_cursor_is_not_ahead(
    scene: Scene, point: str
) -> None:
    lines = log_of(3, 6 * SIZE + 20)
    await tail_through_a_kill(scene, lines, asked=(point, 4), size=SIZE, is_small=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", [1, 3])
@pytest.mark.parametrize("point", failpoints.POINTS["identity"])
async def test_so_does_one_with_real_pages(scene: Scene, point: str, page: int) -> None:
    lines = log_of(page, 3 * plc.PAGE + 200)
    await tail_through_a_kill(scene, lines, asked=(point, page), size=plc.PAGE, is_small=False)
