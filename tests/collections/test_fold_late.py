"""Late referents: recorded networks in other orders become what the slow model makes of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import libipld
import pytest

from engine.core import codec
from engine.roles.indexer.reader import ShardEntries
from tests.model import golden as recorded
from tests.model.events import Account, Event, frames, read_frame
from tests.model.model import Model
from tests.model.stable import Stability, differing, mixed
from tests.model.store import Row
from tests.native.frames import ALLOW
from tests.scenarios.run import RELAY, SHARDS, World

NOW = 1_795_300_000.0  # shortly after the recordings
CLOCKED = {("op_thread_reply", "deletedAt"), ("profile", "createdAt")}
"""Columns that may come from the clock."""
ELSEWHERE = {"actor"}
"""Tables of other roles."""

pytestmark = [pytest.mark.services, pytest.mark.golden]


class Indexer(World):
    """A writer that takes frames."""

    async def index(self, made: list[bytes], seq: int) -> None:
        """Write these in one batch; the last has this seq."""
        self._writer.clock = lambda: NOW
        if batch := shards_of(made, seq):
            await self._writer.write(await self._writer.decode(batch))

    async def fetch(self, query: str) -> list[Any]:
        found: list[Any] = await self._writer.conn.fetch(query)
        return found


class Network:
    """A recorded network: events, and the frames that they were read from."""

    def __init__(self, golden: Path) -> None:
        pairs = [(read_frame(frame), frame) for frame in frames(golden / "frames.bin")]
        self.events = [event for event, _ in pairs if event is not None]
        self._frames = {id(event): frame for event, frame in pairs if event is not None}
        self._resolve = recorded.resolver(golden)
        self.deleted = {
            event.did
            for event in self.events
            if isinstance(event, Account) and event.status == "deleted" and not event.active
        }
        self.stability = Stability(self.events)
        self.rows = self.modelled(self.events)[0]

    def frame(self, event: Event, seq: int) -> bytes:
        """The event's frame with another seq."""
        header, body = libipld.decode_dag_cbor_multi(self._frames[id(event)])
        frame: bytes = libipld.encode_dag_cbor(header) + libipld.encode_dag_cbor(
            body | {"seq": seq}
        )
        return frame

    def modelled(self, events: Iterable[Event]) -> tuple[dict[str, list[Row]], int]:
        """Rows by table, and how many posts were judged again."""
        model = Model(resolve=self._resolve, now=NOW)
        for event in events:
            model.apply(event)
        return self.shown(model.tables()), model.judged_again

    def shown(self, tables: dict[str, list[Any]]) -> dict[str, list[Row]]:
        """Values as text, without what the clock says and what a deletion does."""
        found: dict[str, list[Row]] = {}
        for table, rows in tables.items():
            if table in ELSEWHERE:
                continue
            found[table] = []
            for row in rows:
                is_undone = row.get("reason") == "unverified"
                shown = {
                    name: recorded.printed(value)
                    for name, value in row.items()
                    if (table, name) not in CLOCKED and not (is_undone and name == "sortAt")
                }
                if not any(did in str(value) for did in self.deleted for value in shown.values()):
                    found[table].append(shown)
        return found

    async def indexed(
        self, database: str, events: list[Event], rng: random.Random
    ) -> dict[str, list[Row]]:
        """Rows that the engine makes of the events in this order, in batches cut at random."""
        indexer = await Indexer.open(database)
        seq = 0
        while seq < len(events):
            part = events[seq : seq + rng.choice([1, 20, 100, 400])]
            made = [self.frame(event, seq + place) for place, event in enumerate(part, 1)]
            seq += len(part)
            await indexer.index(made, seq)
        tables = {
            table: [dict(row) for row in await indexer.fetch(f'SELECT * FROM "{table}"')]
            for table in self.rows
        }
        await indexer.close()
        for rows in tables.values():
            for row in rows:
                row.pop("id", None)
        return self.shown(tables)


def shards_of(made: list[bytes], seq: int) -> list[ShardEntries]:
    read = codec.decode_frames(made, relay=RELAY, generation=1, shards=SHARDS, allow=ALLOW)
    shards: dict[int, list[bytes]] = {}
    for shard, entry in read.entries():
        shards.setdefault(shard, []).append(entry)
    return [
        ShardEntries(shard, [b"%d-%d" % (seq, n + 1) for n in range(len(entries))], entries)
        for shard, entries in sorted(shards.items())
    ]


@pytest.fixture(scope="module", params=["golden", "golden-gates"])
def network(request: pytest.FixtureRequest, shared: Path) -> Network:
    return Network(shared / str(request.param))


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
async def test_rows_of_another_order_are_the_model_s_and_stable_ones_those_of_the_first(
    database: str, network: Network, seed: int
) -> None:
    rng = random.Random(seed)
    order = mixed(network.events, rng)
    wanted, judged_again = network.modelled(order)
    assert judged_again > 100
    got = await network.indexed(database, order, rng)
    differences = {
        table: (want - have, have - want)
        for table in wanted
        if (want := counted(wanted[table])) != (have := counted(got[table]))
    }
    assert differences == {}
    wrong, unstable = differing(network.stability, network.rows, got)
    assert wrong == []
    assert unstable.total() > 50  # the order was another one


def counted(rows: list[Row]) -> Counter[str]:
    return Counter(repr(sorted(row.items())) for row in rows)
