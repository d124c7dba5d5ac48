"""SQL that a person might read, EXPLAIN or tune: named statements in files beside this one.

A file is a list of statements, each after a line ``-- name: NAME``. ``{state}`` stands for the
quoted name of our own schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str, *, state: str) -> dict[str, str]:
    """The statements of ``FILE.sql`` by name.

    Args:
        file: name of the file, without its ending.
        state: our own schema, unquoted.
    """
    text = files(__name__).joinpath(f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    return {
        name: body.strip().rstrip(";").replace("{state}", quoted(state))
        for name, body in zip(names, bodies, strict=True)
    }


def quoted(identifier: str) -> str:
    """An identifier as SQL writes it."""
    return '"' + identifier.replace('"', '""') + '"'


def count_rows(schema: str, tables: Sequence[str]) -> str:
    """A statement of one row: how many rows each table has, by its name."""
    counts = ", ".join(
        f"(SELECT count(*) FROM {quoted(schema)}.{quoted(table)}) AS {quoted(table)}"  # noqa: S608
        for table in tables
    )
    return f"SELECT {counts}"
