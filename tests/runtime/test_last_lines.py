from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from engine.runtime.last_lines import KEPT_CHARACTERS, KEPT_LINES, LastLines, cause

HEAD = "2026-01-31T12:00:00.123Z"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ""),
        (["", "  "], ""),
        ([f"{HEAD} INFO x fine"], f"{HEAD} INFO x fine"),
        ([f"{HEAD} ERROR indexer/0 stopped text=y", f"{HEAD} INFO x later"], "stopped text=y"),
        ([f"{HEAD} ERROR x first", f"{HEAD} ERROR x second"], "second"),
        (
            [f"{HEAD} ERROR x bad", "    Traceback", "      File", "    Odd: why", ""],
            "bad: Odd: why",
        ),
        ([f"{HEAD} ERROR x bad", "Traceback (most", "  File", "Odd: why"], "Odd: why"),
        (["      File", "    Odd: its head is forgotten"], "Odd: its head is forgotten"),
    ],
)
def test_cause_is_the_last_error(lines: list[str], expected: str) -> None:
    assert cause(lines) == expected


def said_by(program: str, to: Path) -> list[str]:
    with to.open("wb") as out:
        words = LastLines(out.fileno())
        process = subprocess.Popen([sys.executable, "-c", program], stderr=words.write_fd)
        words.started()
        assert process.wait() == 0
        return words.finish(20)


def test_memory_is_bounded_whatever_is_written(tmp_path: Path) -> None:
    program = "import sys\nfor _ in range(300): sys.stderr.write('x' * 100_000 + '\\n' * (_ % 2))"
    tracemalloc.start()
    lines = said_by(program, tmp_path / "log")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "log").stat().st_size >= 30_000_000
    assert peak < 2_000_000
    assert len(lines) == KEPT_LINES
    assert {len(line) for line in lines} <= set(range(KEPT_CHARACTERS + 1))


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    lines = said_by("import os; os.write(2, b'a\\xff\\n\\x00b')", tmp_path / "log")
    assert lines == ["a\ufffd", "\x00b"]
    assert (tmp_path / "log").read_bytes() == b"a\xff\n\x00b\n"


def test_a_process_works_on_when_nobody_reads_our_log(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    words = LastLines(write_end)
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stderr.write('line\\n' * 100_000)"],
        stderr=words.write_fd,
    )
    words.started()
    assert process.wait(20) == 0
    assert words.finish(20) == ["line"] * KEPT_LINES
    os.close(write_end)
