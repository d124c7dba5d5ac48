"""The statements of every table, as text."""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine.collections import statements, to_plan
from tests.collections.memory import OTHER_DELETES, STATEMENTS, Memory

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "sql"
STATE = "headrace"


def by_table() -> dict[str, str]:
    """Every statement of a table in one text, by table."""
    plan = to_plan()
    built = statements.build(plan, "public", STATE)
    texts: dict[str, str] = {}
    for table in plan.tables():
        own = re.compile(rf"^(lookup|delete|update)_{table}(_key)?$")
        named = [(name, text) for name, text in (built.lookups | built.writes).items()]
        parts = [f"-- {name}\n{text};\n" for name, text in named if own.match(name)]
        _, _, columns = built.copies[table]
        quoted = ", ".join(f'"{column}"' for column in columns)
        parts.append(f'-- copy\nCOPY "{table}" ({quoted}) FROM STDIN (FORMAT binary);\n')
        texts[table] = "\n".join(parts)
    return texts


def test_statements_are_the_golden_ones() -> None:
    """Rewritten with HEADRACE_UPDATE_GOLDEN=1, for the reviewer to read."""
    texts = by_table()
    if os.environ.get("HEADRACE_UPDATE_GOLDEN"):
        for table, text in texts.items():
            (GOLDEN / f"{table}.sql").write_text(text)
    assert {path.stem: path.read_text() for path in GOLDEN.glob("*.sql")} == texts
    assert len(texts) == 25


def test_every_name_that_a_fold_can_use_has_a_statement() -> None:
    plan = to_plan()
    built = statements.build(plan, "public", STATE)
    lookups, writes = set(built.lookups), set(built.writes)
    for collection in plan.collections:
        if collection.table:
            assert f"lookup_{collection.table.name}" in lookups
            assert (f"lookup_{collection.table.name}_key" in lookups) == bool(collection.unique)
    for name, table in plan.tables().items():
        assert (f"delete_{name}" in writes) == bool(table.key)
    answered = {f"lookup_{name}" for name in Memory(plan).answers.named}
    assert answered <= lookups
    assert set(STATEMENTS) | set(OTHER_DELETES) | {"delete_quotes_of"} <= writes
    assert lookups & writes == set()
    assert not [text for text in (built.lookups | built.writes).values() if "{state}" in text]


def test_names_are_quoted() -> None:
    built = statements.build(to_plan(), "public", 'a"b')
    assert '"a""b".repo' in built.lookups["lookup_repos"]
