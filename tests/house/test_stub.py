"""The typed stub of the extension says what the extension is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN_TO_STUBS = "engine._native.__all__\n"


def test_stub_is_what_the_extension_offers(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(UNKNOWN_TO_STUBS)
    command = [sys.executable, "-m", "mypy.stubtest", "engine._native", "--allowlist", str(allowed)]
    done = subprocess.run(
        [*command, "--mypy-config-file", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
