from __future__ import annotations

from typing import Any

import orjson
import pytest

from engine.core.streams import LIVE
from engine.ops import status
from engine.ops.status import Status
from engine.ops.status_facts import Position, PostgresFacts, RedisFacts, RelayRow, SourceFacts

HOST = "relay.example"


def told(last_ids: dict[int, str | None], *, received: int | None = 100, **more: Any) -> RedisFacts:
    return RedisFacts(
        now=1000.0,
        epoch="e",
        cursors={HOST: received},
        sources={
            LIVE: SourceFacts(
                {shard: None if last is None else (5, last) for shard, last in last_ids.items()},
                **more,
            )
        },
        processes={"firehose": {"relays": {HOST: {"connected": True, "notices": {"info": 2}}}}},
    )


def known(*positions: tuple[str, str, int | None]) -> PostgresFacts:
    """(epoch, committed id, seq) of each shard from 0 on."""
    return PostgresFacts(
        epoch="e",
        shard_count=len(positions),
        relays=[RelayRow(HOST, 2, 40)],
        positions={
            LIVE: [
                Position(
                    shard,
                    epoch,
                    entry_id,
                    {f"{HOST}/1": {"seq": 99_999}}
                    | ({f"{HOST}/2": {"seq": seq}} if seq is not None else {}),
                )
                for shard, (epoch, entry_id, seq) in enumerate(positions)
            ]
        },
    )


@pytest.mark.parametrize(
    ("positions", "last_ids", "indexed"),
    [
        # Nothing beyond any position: everything received is indexed, whatever the rows say.
        ([("e", "9-1", 70), ("e", "5-0", 60)], {0: "9-1", 1: "5-0"}, 100),
        # One shard behind: its position decides.
        ([("e", "9-1", 70), ("e", "5-0", 60)], {0: "9-1", 1: "5-1"}, 60),
        ([("e", "9-1", 70), ("e", "5-0", 60)], {0: "9-2", 1: "5-0"}, 70),
        # Numbers, not text: 10-0 comes after 9-0.
        ([("e", "10-0", 70)], {0: "9-0"}, 100),
        ([("e", "9-0", 70)], {0: "10-0"}, 70),
        # A shard that never saw this generation holds its first seq.
        ([("e", "9-0", 70), ("e", "0-0", None)], {0: "9-0", 1: "1-0"}, 40),
        ([("e", "9-0", 70), ("e", "0-0", None)], {0: "9-0", 1: "0-0"}, 100),
        # A position of an older life says nothing about these streams.
        ([("old", "9-0", 70)], {0: "3-0"}, 70),
        ([("old", "9-0", 70)], {0: "0-0"}, 100),
        # A lost stream hides what it held.
        ([("e", "9-0", 70)], {0: None}, 70),
    ],
)
def test_indexed_seq(
    positions: list[tuple[str, str, int | None]], last_ids: dict[int, str | None], indexed: int
) -> None:
    found = status.assemble(told(last_ids), known(*positions), [HOST])
    assert found.relays[HOST].indexed_seq == indexed
    assert found.relays[HOST].generation == 2


def test_indexed_seq_without_cursor_is_what_postgres_holds() -> None:
    found = status.assemble(told({0: "9-0"}, received=None), known(("e", "9-0", 70)), [HOST])
    assert found.relays[HOST].received_seq is None
    assert found.relays[HOST].indexed_seq == 70


def test_lag_is_the_age_of_the_oldest_entry_not_indexed() -> None:
    facts = told({0: "999000-0", 1: "5-0"}, oldest_waiting={0: "998500-3"})
    found = status.assemble(facts, known(("e", "900000-0", 70), ("e", "5-0", 1)), [HOST])
    assert found.relays[HOST].lag_seconds == 1.5
    assert found.streams["firehose_live"].shards["0"].waiting
    assert not found.streams["firehose_live"].shards["1"].waiting


def test_assemble_takes_connection_and_notices_from_the_heartbeat() -> None:
    relay = status.assemble(told({0: "9-0"}), known(("e", "9-0", 1)), [HOST]).relays[HOST]
    assert relay.connected is True
    assert relay.notices == {"info": 2}


def test_assemble_without_redis_keeps_what_postgres_knows() -> None:
    found = status.assemble(None, known(("e", "9-0", 70)), [HOST])
    relay = found.relays[HOST]
    assert (relay.received_seq, relay.indexed_seq, relay.lag_seconds) == (None, 70, None)
    assert not found.streams["firehose_live"].shards["0"].waiting


def test_assemble_without_postgres_keeps_what_redis_knows() -> None:
    relay = status.assemble(told({0: "9-0"}), None, [HOST]).relays[HOST]
    assert (relay.received_seq, relay.indexed_seq) == (100, None)


def test_assemble_without_both_still_names_the_relays() -> None:
    assert list(status.assemble(None, None, [HOST]).relays) == [HOST]


def caught_up_status() -> Status:
    return status.assemble(told({0: "9-0"}), known(("e", "9-0", 100)), [HOST])


def test_caught_up_when_all_is_indexed_and_nothing_is_due() -> None:
    assert status.caught_up(caught_up_status(), [HOST])


def test_caught_up_before_any_frame_needs_a_connection() -> None:
    found = status.assemble(told({0: "0-0"}, received=None), known(("e", "0-0", None)), [HOST])
    assert status.caught_up(found, [HOST])
    found.relays[HOST].connected = False
    assert not status.caught_up(found, [HOST])


def test_caught_up_ignores_a_relay_that_was_given_up() -> None:
    found = caught_up_status()
    found.relays["old.example"] = status.Relay(received_seq=9, indexed_seq=7, generation=1)
    assert status.caught_up(found, [HOST])
    assert not status.caught_up(found, [HOST, "new.example"])


def test_caught_up_asks_nothing_of_a_relay_that_stands_by() -> None:
    found = caught_up_status()
    standby = status.Relay(received_seq=9, indexed_seq=7, generation=1, connected=False)
    found.relays["other.example"] = standby
    assert not status.caught_up(found, [HOST, "other.example"])
    standby.active = False
    assert status.caught_up(found, [HOST, "other.example"])
    assert "relay other.example: not connected, stands by, received 9" in status.render_text(found)
    found.relays[HOST].active = False
    assert not status.caught_up(found, [HOST, "other.example"])


def test_assemble_lists_relays_that_are_known_rather_than_those_of_other_settings() -> None:
    found = status.assemble(told({0: "9-0"}), known(("e", "9-0", 100)), ["default.example"])
    assert list(found.relays) == [HOST]


def test_not_caught_up_while_anything_is_open() -> None:
    opened = []
    for change in (
        lambda s: s.errors.append("Redis: away"),
        lambda s: setattr(s.identity, "due", 1),
        lambda s: setattr(s.deletions, "due", 1),
        lambda s: setattr(s, "unsettled", 1),
        lambda s: setattr(s.relays[HOST], "connected", None),
        lambda s: setattr(s.relays[HOST], "indexed_seq", 99),
        lambda s: setattr(s.relays[HOST], "generation", None),
        lambda s: setattr(s.streams["firehose_live"].shards["0"], "waiting", True),
        lambda s: s.relays.clear(),
    ):
        found = caught_up_status()
        change(found)
        opened.append(status.caught_up(found, [HOST]))
    assert opened == [False] * 9


def test_render_json_has_the_names_that_scripts_rely_on() -> None:
    document = orjson.loads(status.render_json(caught_up_status()))
    assert document["relays"][HOST]["received_seq"] == 100
    assert document["relays"][HOST]["indexed_seq"] == 100
    assert document["streams"]["firehose_live"]["shards"]["0"]["entries"] == 5
    assert document["identity"] == {"due": 0, "later": 0}
    assert document["deletions"] == {"due": 0, "later": 0}
    assert document["dead_letters"] == {}


def test_render_text_says_what_is_wrong() -> None:
    found = caught_up_status()
    found.errors.append("Postgres: refused")
    text = status.render_text(found)
    assert f"relay {HOST}: connected, received 100, indexed 100" in text
    assert "error: Postgres: refused" in text


def test_lag_of_a_shard_is_what_lies_beyond_its_position() -> None:
    facts = told(
        {0: "9-0", 1: "9-0", 2: "9-0", 3: None},
        added={0: 50, 1: 50, 2: 50},
        oldest_waiting={0: "7-0", 2: "2-0"},
    )
    postgres = known(("e", "5-0", 70), ("e", "9-0", 70), ("old", "99-0", 70), ("e", "5-0", 70))
    for position in postgres.positions[LIVE]:
        position.entries, position.age_seconds = 48, 7.5
    shards = status.assemble(facts, postgres, [HOST]).streams["firehose_live"].shards
    assert [shard.lag_entries for shard in shards.values()] == [2, 2, 50, None]
    assert [shard.lag_seconds for shard in shards.values()] == [999.993, 0.0, 999.998, None]
    assert {shard.progress_seconds for shard in shards.values()} == {7.5}
