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
            ["firehose@1", "indexer/0of2@0", "indexer/1of2@1", "identity@0"],
        ),
        (1, 16, [0, 1, 2, 3], None, ["firehose@3", "indexer/0of1@0", "identity@2"]),
        (3, 16, [4], ["indexer"], ["indexer/0of3@4", "indexer/1of3@4", "indexer/2of3@4"]),
        (8, 2, [0, 1, 2], ["indexer"], ["indexer/0of2@0", "indexer/1of2@1"]),
        (0, 16, [], None, ["firehose@None", "indexer/0of1@None", "identity@None"]),
        (0, 16, [7], ["identity", "firehose"], ["firehose@7", "identity@7"]),
    ],
)
def test_plan(
    processes: int, shards: int, cores: list[int], roles: list[str] | None, expected: list[str]
) -> None:
    settings = Settings(shard_count=shards, indexer=IndexerSettings(processes=processes))
    specs = plan(settings, cores, roles)
    assert [
        f"{spec.name}{f'of{spec.of}' if spec.role == 'indexer' else ''}@{spec.core}"
        for spec in specs
    ] == expected


def test_plan_gives_each_shard_one_indexer() -> None:
    specs = plan(Settings(), list(range(5)), ["indexer"])
    owned = [shard for spec in specs for shard in range(spec.slot, 16, spec.of)]
    assert sorted(owned) == list(range(16))


@pytest.mark.parametrize(("role", "word"), [("backfiller", "this version"), ("x", "no role")])
def test_plan_role_that_is_not_there_is_refused(role: str, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        plan(Settings(), [0], ["firehose", role])


def test_arguments_are_what_an_operator_types() -> None:
    spec = ProcessSpec("indexer", 1, 3, 2)
    assert spec.arguments == "run indexer --slot 1 --of 3 --core 2".split()
    assert ProcessSpec("firehose", 0, 1, None).arguments == "run firehose --slot 0 --of 1".split()
