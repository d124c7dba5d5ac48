"""`headrace demo`, the first thing that anybody runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_demo_ends_with_rows_and_where_to_look(short_dir: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    # Another deployment's settings are not the demo's.
    environ |= {"DATABASE_URL": "postgresql://nowhere.invalid/x", "INGESTER_RELAY_HOSTS": "nowhere"}
    done = subprocess.run(
        [sys.executable, "-m", "engine", "demo", "--data-dir", str(short_dir / "demo")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name: int(count.replace(",", "")) for name, count in _ROW.findall(done.stdout)}
    assert rows["post"] > 100
    assert rows["like"] > rows["repost"] > 10
    assert rows["actor"] == rows["profile"] > 10
    assert rows["ok"] > 30, "its repositories were fetched, too"
    assert "INGESTER_RELAY_HOSTS" in done.stdout
    assert "headrace status" in done.stdout
    assert "Traceback" not in done.stderr


_ROW = re.compile(r"^  (\w+) +([\d,]+)$", re.MULTILINE)
