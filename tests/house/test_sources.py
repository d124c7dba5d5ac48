"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

from engine.ops import settings_doc

ROOT = Path(__file__).resolve().parents[2]
LINE_LIMITS = {".py": 400, ".rs": 450}
"""rustfmt is airy."""
SQL_WORDS = ("SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "COPY ", "ALTER ", "CREATE ")
BUILDS_SQL = {"engine/collections", "engine/sql", "engine/ops/schema"}
"""Where SQL follows mechanically from declarations; elsewhere it lives in engine/sql."""


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for folder in ("native/src", "native/fuzz/src"):
        found += list((ROOT / folder).rglob("*.rs"))
    assert len(found) > 20
    return found


def test_files_are_short_enough_to_be_read() -> None:
    long = {}
    for path in sources("engine"):
        # Unit tests at the end of a Rust file do not count.
        lines = len(path.read_text().split("#[cfg(test)]")[0].splitlines())
        if lines > LINE_LIMITS[path.suffix]:
            long[str(path.relative_to(ROOT))] = lines
    assert long == {}


def test_sql_is_not_pasted_together() -> None:
    offenders = []
    seen = 0
    for path in (ROOT / "engine").rglob("*.py"):
        name = str(path.relative_to(ROOT))
        if any(name.startswith(allowed) for allowed in BUILDS_SQL):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                seen += 1
                text = "".join(
                    str(part.value) for part in node.values if isinstance(part, ast.Constant)
                )
                if text.lstrip().startswith(SQL_WORDS):
                    offenders.append(f"{name}:{node.lineno}")
    assert seen > 10
    assert offenders == []


def test_settings_page_is_what_the_declarations_say() -> None:
    page = (ROOT / "docs" / "SETTINGS.md").read_text()
    assert page == settings_doc.render(), "run `make docs`"


def test_native_code_has_one_door() -> None:
    # import-linter reads Python sources only, so it cannot know the extension.
    users = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "engine").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("engine._native"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "engine"
            and any(alias.name == "_native" for alias in node.names)
        )
        or (
            isinstance(node, ast.Import)
            and any(alias.name.startswith("engine._native") for alias in node.names)
        )
    }
    assert users <= {"engine/core/codec.py"}


def test_the_directory_is_asked_by_nobody_without_the_pace_of_the_settings() -> None:
    by = "engine/adapters/identity.py"
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in sources("engine")}
    makes = {name for name, text in texts.items() if "DidResolver(" in text}
    knows = {name for name, text in texts.items() if ".plc_url" in text or ".plc_mirrors" in text}
    assert (makes, knows) == (set(), {by})
    assert texts[by].count("return cls(") == 1
    assert "pace=paces.of(settings)," in texts[by]
