"""Which line of a COPY a server refused, as its words say it."""

from __future__ import annotations

import pytest

from engine.roles.indexer.writer import refused_line


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ("COPY post_gate, line 12", 12),
        ("COPY post_gate, line 12, column postUri", 12),
        ("COPY post_gate, Zeile 12, Spalte postUri", 12),
        ("post_gateのCOPY、12 行目、列 c2", 12),
        ("PL/pgSQL function f1() line 3 at RAISE\nCOPY post_gate, line 12", 12),
        ("something else", None),
        ("", None),
        (None, None),
    ],
)
def test_the_line_is_found_in_any_language(context: str | None, line: int | None) -> None:
    assert refused_line(context, "post_gate") == line
