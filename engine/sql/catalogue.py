"""What a database looks like, as data; and what the data plane's looks like when it is whole.

Texts are as the catalogue functions of Postgres print them with the tables'
schema first in the search path, so they compare as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

_LONG_TYPES = {"varchar": "character varying", "serial": "integer", "bigserial": "bigint"}
_COLUMN = re.compile(
    r'(?P<name>"[^"]+"|\w+) (?P<type>\w+(?:\(\d+\))?)(?P<not_null> NOT NULL)?'
    r"(?: DEFAULT (?P<default>.+?)| GENERATED ALWAYS AS \((?P<generated>.+)\) STORED)?"
)
_CONSTRAINT = re.compile(r'CONSTRAINT ("[^"]+"|\w+) (.+)')
_TABLE = re.compile(r'^CREATE TABLE ("[^"]+"|\w+) \(\n(.*?)\n\);', re.MULTILINE | re.DOTALL)
_INDEX = re.compile(r'^(CREATE (?:UNIQUE )?INDEX (\w+) ON ("[^"]+"|\w+) [^;]+);', re.MULTILINE)
_KEY = re.compile(r"(?:PRIMARY KEY|UNIQUE) \((.+)\)")


@dataclass(frozen=True)
class Column:
    """One column. ``default`` is the generation expression of a generated one."""

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    generated: bool = False
    identity: bool = False

    @property
    def fills_itself(self) -> bool:
        """Whether an insert may leave it out although it is NOT NULL."""
        return self.generated or self.identity or self.default is not None


@dataclass(frozen=True)
class Key:
    """A unique key: by constraint or by index."""

    name: str
    columns: tuple[str, ...]
    partial: bool = False  # or on expressions, or deferrable: holds sometimes


@dataclass(frozen=True)
class Table:
    """A table; columns are in attribute order."""

    name: str
    columns: dict[str, Column] = field(default_factory=dict)
    constraints: dict[str, str] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)  # those of no constraint
    keys: tuple[Key, ...] = ()
    invalid_indexes: tuple[str, ...] = ()


Catalogue = dict[str, Table]


def dataplane_ddl() -> str:
    """The statements that make the data plane's tables in an empty schema."""
    return files(__package__).joinpath("dataplane.sql").read_text(encoding="utf-8")


@cache
def dataplane() -> Catalogue:
    """The data plane's tables as ``dataplane.sql`` makes them."""
    return parse(dataplane_ddl())


def parse(ddl: str) -> Catalogue:
    """Read DDL written in the regular form that ``dataplane.sql`` describes.

    Raises:
        ValueError: a line that is not of that form.
    """
    found: Catalogue = {}
    for name, body in _TABLE.findall(ddl):
        table = Table(_bare(name))
        keys = []
        for line in body.split("\n"):
            definition = line.strip().removesuffix(",")
            if constraint := _CONSTRAINT.fullmatch(definition):
                table.constraints[_bare(constraint[1])] = constraint[2]
                if key := _KEY.fullmatch(constraint[2]):
                    columns = tuple(_bare(part) for part in key[1].split(", "))
                    keys.append(Key(_bare(constraint[1]), columns))
            elif column := _COLUMN.fullmatch(definition):
                made = _column(table.name, column)
                table.columns[made.name] = made
            else:
                raise ValueError(f"cannot read the definition {definition!r} of {table.name}")
        found[table.name] = Table(table.name, table.columns, table.constraints, {}, tuple(keys))
    for definition, name, on in _INDEX.findall(ddl):
        if _bare(on) in found:
            found[_bare(on)].indexes[name] = definition
    return found


def _column(table: str, match: re.Match[str]) -> Column:
    name, short = _bare(match["name"]), match["type"]
    base, _, length = short.partition("(")
    default = match["default"] or match["generated"]
    if base.endswith("serial"):
        default = f"nextval('{table}_{name}_seq'::regclass)"
    return Column(
        name,
        _LONG_TYPES.get(base, base) + (f"({length}" if length else ""),
        bool(match["not_null"]),
        default,
        bool(match["generated"]),
    )


def _bare(identifier: str) -> str:
    return identifier.strip('"')
