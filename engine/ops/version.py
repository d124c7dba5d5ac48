"""Which version this is, and of which commit."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import engine

COMMIT_FILE = "COMMIT"
"""Beside this package in a build made from an archive, which has no git; one line."""


def describe() -> str:
    """``headrace 1.2.3 (commit 0123456789ab)``; ``unknown`` where nothing tells the commit."""
    try:
        version = metadata.version("headrace")
    except metadata.PackageNotFoundError:
        version = "unknown"
    return f"headrace {version} (commit {commit() or 'unknown'})"


def commit() -> str | None:
    """The commit, from the file that a build wrote, else from the checkout."""
    package = Path(engine.__file__).parent
    written = package / COMMIT_FILE
    if written.is_file():
        return written.read_text(encoding="ascii").strip()[:12] or None
    if not (package.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(package.parent), "rev-parse", "--short=12", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
