"""Any bytes as an entry: an outcome or the one declared error, never a panic."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine import lexicons
from engine.collections import to_plan
from engine.core import codec
from tests.collections.test_fold_golden import ALLOW, NOW, frames_of


def mutant(rng: random.Random, entry: bytes) -> bytes:
    """The entry with a few bytes changed, cut out or doubled; its version stays."""
    data = bytearray(entry)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(1, len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.choice([1, 4])]
            case 2:
                data[at:at] = data[at : at + rng.choice([1, 16])]
            case _:
                data[at] ^= 1 << rng.randrange(8)
        if len(data) < 2:
            break
    return bytes(data)


@pytest.mark.golden
def test_mutated_entries_are_outcomes_or_refused(shared: Path) -> None:
    frames = frames_of(shared / "golden")[::4]
    entries = codec.decode_frames(
        frames, relay="relay.test", generation=1, shards=1, allow=ALLOW
    ).entries()
    plan = codec.Plan(to_plan().encode(), lexicons.documents())
    rng = random.Random(7)
    refused = rejected = applied = 0
    for _ in range(4_000):
        entry = mutant(rng, rng.choice(entries)[1])
        try:
            batch = plan.decode([(0, {}, [entry], False)], now=NOW)
        except codec.UnknownEnvelopeError:
            refused += 1
            continue
        known = batch.known(trusting=rng.random() < 0.5)
        while wanted := known.wanted():
            known.learn([(name, "[]") for name, _ in wanted])
        changes = batch.fold(known, [])
        ((_, _, _, outcomes),) = changes.tally()
        assert sum(outcomes.values()) == batch.ops
        applied += "applied" in outcomes
        rejected += any(word.startswith("rejected") for word in outcomes)
    assert min(refused, rejected, applied) > 100, (refused, rejected, applied)


def test_an_unknown_version_is_its_own_error() -> None:
    plan = codec.Plan(to_plan().encode(), lexicons.documents())
    for entry in (b"\x02\x90", b"", b"\x01"):
        with pytest.raises(codec.UnknownEnvelopeError):
            plan.decode([(0, {}, [entry], False)], now=NOW)


def test_answers_that_are_malformed_are_misuse(shared: Path) -> None:
    frames = frames_of(shared / "golden")[:200]
    entries = codec.decode_frames(
        frames, relay="relay.test", generation=1, shards=1, allow=ALLOW
    ).entries()
    plan = codec.Plan(to_plan().encode(), lexicons.documents())
    batch = plan.decode([(0, {}, [entry for _, entry in entries], False)], now=NOW)
    known, asked = batch.known(trusting=False), 0
    while wanted := known.wanted():
        for name, _ in wanted:
            asked += 1
            for bad in ("", "{}", "[1]", '["a"]'):
                with pytest.raises(ValueError, match=name):
                    known.learn([(name, bad)])
        known.learn([(name, "[]") for name, _ in wanted])
    assert asked > 10
    with pytest.raises(ValueError, match="not asked for"):
        known.learn([("lookup_weather", "[]")])
    other = plan.decode([], now=NOW)
    with pytest.raises(ValueError, match="another batch"):
        other.fold(known, [])
