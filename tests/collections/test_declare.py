from __future__ import annotations

import json

import msgspec
import pytest

from engine import lexicons
from engine.collections import COLLECTIONS, to_plan
from engine.collections.declare import (
    CREATED_AT,
    Collection,
    Column,
    Source,
    Table,
    Type,
    plain,
    record_key,
    text,
)
from engine.core import codec
from engine.sql.catalogue import dataplane


def test_every_indexed_collection_is_declared() -> None:
    assert len(COLLECTIONS) == 19
    assert len({collection.nsid for collection in COLLECTIONS}) == 19
    tables = [collection.table.name for collection in COLLECTIONS if collection.table]
    assert len(tables) == len(set(tables)) == 15
    assert sum(len(collection.embeds) for collection in COLLECTIONS) == 5


def test_declared_tables_are_those_of_the_data_plane() -> None:
    for name, table in to_plan().tables().items():
        known = dataplane()[name].columns
        declared = {column.name for column in table.columns}
        for column in table.columns:
            assert known[column.name].type == column.type, (name, column.name)
            assert not known[column.name].generated
        assert [
            each.name
            for each in known.values()
            if each.name not in declared and each.not_null and not each.fills_itself
        ] == []


def test_declared_keys_are_those_of_the_data_plane() -> None:
    keys = {name: {key.columns for key in table.keys} for name, table in dataplane().items()}
    for name, table in to_plan().tables().items():
        assert table.key in keys[name] or (name, table.key) == ("notification", ()), name
    keyed = 0
    for collection in COLLECTIONS:
        if collection.table and collection.unique:
            assert collection.unique in keys[collection.table.name], collection.nsid
            keyed += 1
    assert keyed == 9


def test_paths_are_fields_of_the_lexicons() -> None:
    documents = {each["id"]: each for each in json.loads(lexicons.documents())}
    checked = 0
    for collection in COLLECTIONS:
        if not collection.table:
            continue
        fields = documents[collection.nsid]["defs"]["main"]["record"]["properties"]
        for column in collection.table.columns:
            if column.path:
                assert column.path.split(".")[0] in fields, (collection.nsid, column.name)
                checked += 1
    assert checked > 40


def test_a_plan_says_what_the_database_has() -> None:
    plan = to_plan({"post.langs": "varchar[]", "post.tags": "text[]", "record.rev": True})
    tables = plan.tables()
    types = {column.name: column.type for column in tables["post"].columns}
    assert (types["langs"], types["tags"]) == (Type.VARCHARS, Type.TEXTS)
    assert tables["record"].columns[-1] == Column("rev", Source.REV)
    assert [column.name for column in to_plan().record.columns][-1] == "indexedAt"
    codec.Plan(plan.encode(), lexicons.documents())


@pytest.mark.parametrize("variant", ["integer[]", "varchar", "magic"])
def test_a_type_that_cannot_be_written_is_named(variant: str) -> None:
    with pytest.raises(ValueError, match=r"post\.langs"):
        to_plan({"post.langs": variant})


def test_wrong_declarations_are_refused_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="path"):
        Column("a", Source.TEXT)
    with pytest.raises(ValueError, match="path"):
        Column("a", Source.URI, "b")
    with pytest.raises(ValueError, match="cannot be"):
        Column("a", Source.TEXT, "b", Type.JSONB)
    with pytest.raises(ValueError, match="twice"):
        Table("t", (*record_key(), text("uri")))
    with pytest.raises(ValueError, match="no column"):
        Table("t", (CREATED_AT,))
    with pytest.raises(ValueError, match="no column"):
        plain("a.b.c", "t", unique=("subject",))
    with pytest.raises(ValueError, match="no column"):
        Collection("a.b.c", unique=("subject",))


def test_the_extension_names_what_is_wrong_with_a_plan() -> None:
    plan = to_plan()
    with pytest.raises(ValueError, match="plan"):
        codec.Plan(b"{}", lexicons.documents())
    with pytest.raises(ValueError, match="has no lexicon"):
        codec.Plan(plan.encode(), b"[]")
    doubled = msgspec.structs.replace(plan, collections=plan.collections * 2)
    with pytest.raises(ValueError, match="twice"):
        codec.Plan(doubled.encode(), lexicons.documents())
