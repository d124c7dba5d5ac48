from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from engine import cli
from engine.ops import version


def test_version_names_version_and_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(
        r"headrace \d+\.\d+\.\d+ \(commit ([0-9a-f]{12}|unknown)\)\n", capsys.readouterr().out
    )


def test_version_takes_the_commit_that_a_build_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / version.COMMIT_FILE).write_text("0123456789abcdef\n")
    monkeypatch.setattr(engine, "__file__", str(tmp_path / "__init__.py"))
    assert version.commit() == "0123456789ab"
    (tmp_path / version.COMMIT_FILE).unlink()
    assert version.commit() is None


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "simulate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "--roles", "firehose,miller"], "'miller' is no role"),
        (["run", "indexer", "--slot", "-1"], "slots count from 0"),
        (["--config", "/nowhere.toml", "status"], "/nowhere.toml: No such file"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("headrace: ")
    assert words in err
    assert err.count("\n") == 1


def test_start_imports_no_driver() -> None:
    program = (
        "import sys; from engine import cli; cli._parser();"
        "print({'asyncpg', 'redis', 'aiohttp', 'msgspec', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
