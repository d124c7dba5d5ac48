"""What became of unstable rows, told at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model.golden import Network
from tests.system import golden
from tests.system.golden import Judgement

Tell = Callable[[str, Judgement], None]

_PROPERTY = "unstable"
"""Of a test's report: it crosses from the process that ran the test to the one that tells."""


@pytest.fixture(params=["golden", "golden-gates"])
def network(request: pytest.FixtureRequest, shared: Path) -> Network:
    return golden.network(shared / str(request.param))


@pytest.fixture
def tell(record_property: Callable[[str, object], None], network: Network) -> Tell:
    """Have a line in the table at the end: in which order, and what came of it."""

    def add(order: str, found: Judgement) -> None:
        tables = " ".join(f"{table}={n}" for table, n in sorted(found.differing.items()))
        sizes = f"{found.rows:7d} {found.unstable:8d} {found.differing.total():7d}"
        line = f"{network.name:14s} {order:24s} {sizes}  {tables}; {len(found.wrong)}"
        record_property(_PROPERTY, line)

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = {
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
        for name, value in report.user_properties
        if name == _PROPERTY
    }
    if not told:
        return
    head = f"{'network':14s} {'order':24s} {'rows':>7s} {'unstable':>8s} {'of them':>7s}  "
    terminalreporter.section("unstable rows that differ in other orders")
    terminalreporter.write_line(head + "by table; stable rows that differ")
    for line in sorted(told):
        terminalreporter.write_line(line)
