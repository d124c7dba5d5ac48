"""Whether the engine can write a database, and how: its catalogue against what is needed.

Operators' databases differ from the reference's: other types for lists, columns
and indexes of their own. Whatever can be written is written, unaltered;
everything else is refused with its name. Pure: catalogues in, differences out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from engine import collections
from engine.sql.catalogue import Catalogue, Column, Table, dataplane

_TEXT_TYPES = ("character varying", "text")
_LIST_TYPES = ("jsonb", "character varying[]", "text[]")

_USED: dict[str, tuple[str, ...]] = {
    "actor": ("did", "handle", "indexedAt", "upstreamStatus"),
    "actor_sync": ("did", "commitCid", "repoRev"),
    "duplicate_record": ("uri", "cid", "duplicateOf", "indexedAt"),
    "feed_item": ("uri", "cid", "type", "postUri", "originatorDid", "sortAt"),
    "label": ("src", "uri", "cid", "val", "neg", "cts", "exp"),
    "notification": (
        *("id", "did", "recordUri", "recordCid"),
        *("author", "reason", "reasonSubject", "sortAt"),
    ),
    "op_thread_reply": ("rootUri", "parentUri", "uri", "deletedAt"),
    "post": (
        *("invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules"),
        *("hasThreadGate", "hasPostGate"),
    ),
    "post_agg": ("uri", "likeCount", "replyCount", "repostCount", "quoteCount"),
    "profile_agg": ("did", "followersCount", "followsCount", "postsCount"),
    "quote": ("uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt"),
}
"""Tables and columns that are written beside those of the collections' plan."""

_READ: dict[str, tuple[str, ...]] = {"thread_mute": ("rootUri", "mutedByDid")}

_KNOWN_KEYS = {"notification": {frozenset(("did", "recordUri", "reason"))}}
"""Unique keys that operators added and that inserts give way to."""


class Severity(StrEnum):
    """What a difference means for the engine."""

    FINE = "fine"  # a variant that is handled
    SLOW = "slow"  # everything works, some statements scan
    FATAL = "fatal"  # rows cannot be written


@dataclass(frozen=True)
class Difference:
    """One difference from the reference's schema."""

    severity: Severity
    table: str
    what: str
    """The thing and how it differs: ``column rev is not in the reference``."""
    handling: str
    """What the engine does about it, or what the operator must do."""

    def __str__(self) -> str:
        """For messages: one line."""
        return f"{self.table}: {self.what} ({self.handling})"


def used_columns() -> dict[str, frozenset[str]]:
    """Every column that the engine reads or writes, by table."""
    found = {
        name: frozenset(column.name for column in table.columns)
        for name, table in collections.to_plan().tables().items()
    }
    for name, columns in (*_USED.items(), *_READ.items()):
        found[name] = found.get(name, frozenset()) | frozenset(columns)
    return found


def variants(found: Catalogue) -> dict[str, str | bool]:
    """The facts that ``collections.to_plan`` and the statements depend on.

    Args:
        found: a catalogue without fatal differences.
    """
    post = found["post"].columns
    rev = found["record"].columns.get("rev")
    return {
        "post.langs": post["langs"].type,
        "post.tags": post["tags"].type,
        "record.rev": rev is not None and _takes_rev(rev),
        "notification.unique": any(
            frozenset(key.columns) in _KNOWN_KEYS["notification"] and not key.partial
            for key in found["notification"].keys
        ),
    }


def compare(found: Catalogue) -> list[Difference]:
    """Every difference from the reference's schema, in table order; empty if there is none."""
    expected, used = dataplane(), used_columns()
    differences: list[Difference] = []
    for name, table in expected.items():
        there = found.get(name)
        if there is None:
            differences.append(_missing_table(name, used))
            continue
        columns = used.get(name, frozenset())
        differences += _columns(table, there, columns)
        differences += _keys(table, there, needed=bool(columns))
        differences += _indexes(table, there)
    for name in found.keys() - expected.keys():
        handling = "not touched"
        differences.append(
            Difference(Severity.FINE, name, "table is not in the reference", handling)
        )
    order = {name: place for place, name in enumerate((*expected, *sorted(found)))}
    return sorted(differences, key=lambda each: order[each.table])


def _missing_table(name: str, used: dict[str, frozenset[str]]) -> Difference:
    if name in used:
        advice = "`headrace schema create` makes the tables in an empty schema"
        return Difference(Severity.FATAL, name, "table is missing", advice)
    return Difference(Severity.FINE, name, "table is missing", "the engine does not use it")


def _columns(expected: Table, there: Table, used: frozenset[str]) -> Iterator[Difference]:
    def differs(severity: Severity, what: str, handling: str) -> Difference:
        # What happens to tables that the engine never touches cannot stop it.
        return Difference(severity if used else Severity.FINE, expected.name, what, handling)

    for name, column in expected.columns.items():
        other = there.columns.get(name)
        if other is None and name in used | _generated(expected):
            yield differs(Severity.FATAL, f"column {name} is missing", "the engine needs it")
        elif other is None:
            yield differs(Severity.FINE, f"column {name} is missing", "the engine does not use it")
        elif other != column:
            for severity, what, handling in _column(expected.name, column, other, name in used):
                yield differs(severity, f"column {name} {what}", handling)
    for name, column in there.columns.items():
        if name not in expected.columns:
            yield differs(*_extra_column(expected.name, column))


def _generated(table: Table) -> set[str]:
    return {name for name, column in table.columns.items() if column.generated}


def _column(
    table: str, ours: Column, there: Column, used: bool
) -> Iterator[tuple[Severity, str, str]]:
    if there.type != ours.type:
        what = f"is {there.type}, not {ours.type}"
        handling = _type_handling(table, ours, there) if used else "the engine does not use it"
        severity = Severity.FINE if handling else Severity.FATAL
        yield severity, what, handling or "cannot be written as this type"
    if ours.generated != there.generated:
        be = "must be generated" if ours.generated else "must not be generated"
        what = "is not generated" if ours.generated else "is generated"
        fatal = used or ours.generated
        yield (Severity.FATAL if fatal else Severity.FINE), what, be if fatal else "left alone"
    elif ours.generated and there.default != ours.default:
        yield Severity.FINE, f"is generated as {there.default}", "the database computes it"
    elif ours.fills_itself and not there.fills_itself:
        yield Severity.FATAL, "has no default", f"needs DEFAULT {ours.default}"
    elif (there.default, there.identity) != (ours.default, ours.identity):
        yield Severity.FINE, f"has the default {there.default or 'identity'}", "no matter"
    if there.not_null and not ours.not_null:
        if used:
            yield Severity.FATAL, "is NOT NULL", "the engine must write NULL into it"
        elif not there.fills_itself:
            yield Severity.FATAL, "is NOT NULL without a default", "the engine does not fill it"
        else:
            yield Severity.FINE, "is NOT NULL", "left at its default"
    elif ours.not_null and not there.not_null:
        yield Severity.FINE, "may be NULL", "the engine never writes NULL into it"


def _type_handling(table: str, ours: Column, there: Column) -> str | None:
    """How a column of another type is written; None if it cannot be."""
    if (table, ours.name) in {("post", "langs"), ("post", "tags")} and there.type in _LIST_TYPES:
        return "written as that"
    if ours.type in _TEXT_TYPES and there.type in _TEXT_TYPES:
        return "the same bytes"
    if ours.type == "character varying" and there.type.startswith("character varying("):
        return "longer values are refused and become dead letters"
    if ours.type == "bigint" and there.type == "integer" and ours.default == "0":
        return "counts up to 2147483647"
    return None


def _extra_column(table: str, column: Column) -> tuple[Severity, str, str]:
    what = f"column {column.name} is not in the reference"
    if table == "record" and column.name == "rev" and _takes_rev(column):
        return Severity.FINE, what, "filled with the rev of the commit"
    if not column.not_null or column.fills_itself:
        return Severity.FINE, what, "left at its default"
    return Severity.FATAL, f"{what}, NOT NULL and without a default", "the engine cannot fill it"


def _takes_rev(column: Column) -> bool:
    return column.type in _TEXT_TYPES and not column.generated


def _keys(expected: Table, there: Table, *, needed: bool) -> Iterator[Difference]:
    ours = {frozenset(key.columns): key for key in expected.keys}
    whole = {frozenset(key.columns) for key in there.keys if not key.partial}
    for columns, key in ours.items():
        if columns not in whole:
            what = f"no unique key on ({', '.join(key.columns)})"
            severity = Severity.FATAL if needed else Severity.FINE
            yield Difference(severity, expected.name, what, f"in the reference {key.name}")
    waiting = set(ours)
    for key in there.keys:
        columns = frozenset(key.columns)
        if columns in waiting and not key.partial:
            waiting.remove(columns)  # a second one on the same columns is a difference
            continue
        what = f"unique index {key.name} on ({', '.join(key.columns)}) is not in the reference"
        if not needed:
            yield Difference(Severity.FINE, expected.name, what, "the engine does not write here")
        elif not key.partial and columns in _KNOWN_KEYS.get(expected.name, set()):
            yield Difference(Severity.FINE, expected.name, what, "rows it refuses are skipped")
        elif any(columns >= known for known in ours) and key.columns:
            yield Difference(
                Severity.FINE, expected.name, what, "implied by a key of the reference"
            )
        else:
            yield Difference(Severity.FATAL, expected.name, what, "it would refuse rows: drop it")


def _indexes(expected: Table, there: Table) -> Iterator[Difference]:
    defined = {_definition(text): name for name, text in there.indexes.items()}
    ours = {_definition(text) for text in expected.indexes.values()}
    unique = {key.name for key in there.keys}
    for name, text in expected.indexes.items():
        if _definition(text) not in defined:
            what = f"index {name} is missing or another"
            yield Difference(Severity.SLOW, expected.name, what, text)
    for text, name in defined.items():
        if text not in ours and name not in unique:
            what = f"index {name} is not in the reference"
            yield Difference(Severity.FINE, expected.name, what, "left alone")
    for name in there.invalid_indexes:
        what = f"index {name} is invalid"
        yield Difference(Severity.SLOW, expected.name, what, f"REINDEX INDEX {name}")
    for name, text in there.constraints.items():
        if text not in expected.constraints.values() and not text.startswith(("PRIM", "UNIQ")):
            what = f"constraint {name} is not in the reference: {text}"
            handling = "rows it refuses become dead letters"
            yield Difference(Severity.FINE, expected.name, what, handling)


def _definition(index: str) -> str:
    """What an index is, without its name."""
    return index.partition(" ON ")[2]
