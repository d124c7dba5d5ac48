"""The scenarios' rows against a second opinion: the slow model, one event after another.

The model agrees with the reference on the recorded networks. So a rule that stands in both is
no slip of who wrote the scenario.
"""

from __future__ import annotations

import pytest

from engine.core import wire
from tests.collections import commits
from tests.model import events
from tests.model.model import Model
from tests.native import frames
from tests.scenarios import dsl, rows
from tests.scenarios.run import Message, bind
from tests.scenarios.test_scenarios import SCENARIOS

NOT_MODELLED = {
    "s05-long-subjects": "the limit of index keys",
    "s11-takedown-kept-over-an-update": "what others write",
    "s11-takedown-lost-over-delete-and-create": "what others write",
    "s47-profile-without-a-date": "the clock",
    "s65-labels": "what others write",
}


class Played:
    """A model and what else may happen to it."""

    def __init__(self, gone: set[str]) -> None:
        self._aliases: dict[str, str | None] = {}
        self._points: dict[str, str] = {}
        self._mutes: set[tuple[str, str]] = set()
        self._seq = 0
        self.model = Model(
            resolve=self._resolve, is_hosted=lambda did: did not in gone, now=commits.NOW
        )

    def _resolve(self, did: str) -> str | None:
        alias = self._aliases.get(did)
        if alias is None:
            raise LookupError(did)
        handle = alias.lower()
        return handle if self._points.get(handle) == did else None

    def play(self, step: Message | dsl.Sql | dsl.Resolve | dsl.Gone) -> None:
        match step:
            case Message():
                self._seq += 1
                event = _read(step.frame(self._seq))
                if event is not None:
                    self.model.apply(event)
            case dsl.Sql(statement, (root, did, *_)):
                change = self._mutes.add if statement.startswith("INSERT") else self._mutes.discard
                change((did, root))
                self.model.mute(self._mutes)
            case dsl.Resolve(aliases, points):
                self._aliases, self._points = aliases, points
                for did in aliases:
                    self.model.look_up(did)
                self._aliases = {}


def _read(frame: bytes) -> events.Event | None:
    """What the indexer would see of a frame, and the ops that are filtered before it."""
    (entry,) = frames.decode([frame]).entries()
    read = wire.decode(entry[1])
    if isinstance(read, wire.Commit) and read.filtered:
        return events.read_frame(frame)
    return events.read_entry(entry[1])


@pytest.mark.parametrize("name", [each for each in SCENARIOS if each not in NOT_MODELLED])
def test_the_model_agrees(name: str) -> None:
    run = bind(SCENARIOS[name], 1)
    played = Played({step.did for step in run.steps if isinstance(step, dsl.Gone)})
    for step in run.steps:
        played.play(step)
    tables = played.model.tables()
    found: list[str] = []
    for table, expected in run.scenario.rows.items():
        of, _, part = table.partition("@")
        there = [row for row in tables[of] if part in repr(row)]
        found += rows.differences(table, expected, there)
    assert not found, "\n".join([run.scenario.why, *found])


def test_little_is_left_out() -> None:
    assert NOT_MODELLED.keys() <= SCENARIOS.keys()
    assert len(SCENARIOS) > 300
