"""What became of unstable rows, told at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model.golden import Network
from tests.system import golden
from tests.system.golden import Judgement

Tell = Callable[[str, Judgement], None]

_TOLD = pytest.StashKey[list[tuple[str, Judgement]]]()


@pytest.fixture(params=["golden", "golden-gates"])
def network(request: pytest.FixtureRequest, shared: Path) -> Network:
    return golden.network(shared / str(request.param))


@pytest.fixture
def tell(request: pytest.FixtureRequest, network: Network) -> Tell:
    """Have a line in the table at the end: in which order, and what came of it."""
    told = request.config.stash.setdefault(_TOLD, [])
    return lambda order, found: told.append((f"{network.name:14s} {order:24s}", found))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    told = config.stash.get(_TOLD, [])
    if not told:
        return
    head = f"{'network':14s} {'order':24s} {'rows':>7s} {'unstable':>8s} {'of them':>7s}  "
    terminalreporter.section("unstable rows that differ in other orders")
    terminalreporter.write_line(head + "by table; stable rows that differ")
    for name, found in sorted(told, key=lambda each: each[0]):
        tables = " ".join(f"{table}={n}" for table, n in sorted(found.differing.items()))
        sizes = f"{found.rows:7d} {found.unstable:8d} {found.differing.total():7d}"
        terminalreporter.write_line(f"{name} {sizes}  {tables}; {len(found.wrong)}")
