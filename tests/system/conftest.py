"""Networks for tests of a whole deployment."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import simulate


@pytest.fixture(scope="session")
def busy_network() -> Iterator[simulate.Network]:
    """More than any role here does in the time that a test gives it."""
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        made = simulate.generate(Path(folder), seed=7, ops=20_000, accounts=1500)
        assert made["ops"] >= 20_000
        yield simulate.load(Path(folder))
