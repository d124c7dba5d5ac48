from __future__ import annotations

import pytest

from engine.errors import SettingsError
from engine.runtime.plan import ProcessSpec, plan
from engine.settings import IndexerSettings, Settings


@pytest.mark.parametrize(
    ("processes", "shards", "cores", "roles", "expected"),
    [
        (
            0,
            16,
            [0, 1],
            None,
            [
                *("firehose@1", "lister/0@0", "backfiller/0@1"),
                *("indexer/0@0", "indexer/1@1", "identity@0"),
            ],
        ),
        (
            1,
            16,
            [0, 1, 2, 3],
            None,
            ["firehose@3", "lister/0@2", "backfiller/0@1", "indexer/0@0", "identity@0"],
        ),
        (3, 16, [4], ["indexer"], ["indexer/0@4", "indexer/1@4", "indexer/2@4"]),
        (8, 2, [0, 1, 2], ["indexer"], ["indexer/0@0", "indexer/1@1"]),
        (0, 16, [], ["firehose", "indexer"], ["firehose@None", "indexer/0@None"]),
        (0, 16, [7], ["identity", "firehose"], ["firehose@7", "identity@7"]),
    ],
)
def test_plan(
    processes: int, shards: int, cores: list[int], roles: list[str] | None, expected: list[str]
) -> None:
    settings = Settings(shard_count=shards, indexer=IndexerSettings(processes=processes))
    specs = plan(settings, cores, roles, host="h")
    assert [f"{spec.name}@{spec.core}" for spec in specs] == expected


@pytest.mark.parametrize(("role", "word"), [("x", "no role"), ("indexers", "no role")])
def test_plan_role_that_is_not_there_is_refused(role: str, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        plan(Settings(), [0], ["firehose", role], host="h")


def test_arguments_are_what_an_operator_types() -> None:
    spec = ProcessSpec("indexer", 1, 2, "db1")
    assert spec.arguments == "run indexer --slot 1 --host db1 --core 2".split()
    spec = ProcessSpec("firehose", 0, None, "db1")
    assert spec.arguments == "run firehose --slot 0 --host db1".split()


def test_names_differ_between_hosts_where_both_may_have_such_a_process() -> None:
    specs = [spec for host in ("a", "b") for spec in plan(Settings(), [0, 1], host=host)]
    shared = [spec.shared_name for spec in specs]
    assert sorted(set(shared)) == [
        "backfiller/0@a",
        "backfiller/0@b",
        "firehose",
        "identity",
        "indexer/0@a",
        "indexer/0@b",
        "indexer/1@a",
        "indexer/1@b",
        "lister/0@a",
        "lister/0@b",
    ]
    names = {"firehose", "identity", "indexer/0", "indexer/1", "lister/0", "backfiller/0"}
    assert {spec.name for spec in specs} == names
