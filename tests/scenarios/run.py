"""Scenarios to frames, frames through the ingester's decoder to a writer, rows compared."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar, cast

import asyncpg
import libipld

from engine import errors, sql
from engine.adapters import postgres
from engine.adapters.handles import Answer
from engine.core import codec, streams
from engine.core import identity as rules
from engine.roles import handles
from engine.roles.indexer import deletion, tables, writer
from engine.roles.indexer import lease as leases
from engine.roles.indexer import position as positions
from engine.roles.indexer.reader import ShardEntries
from engine.roles.indexer.settler import Settler
from engine.roles.indexer.stages import Stages
from engine.settings import Settings
from engine.simulate.network import frame_seq
from tests.collections import commits
from tests.native import frames
from tests.scenarios import dsl, rows

SHARDS = 16
RELAY = "relay.test"
V = TypeVar("V")

_CID = re.compile(r"CID<(\w+)>")
_MADE = re.compile(r"(OP|COMMIT)<[\d.]+>")


@dataclasses.dataclass(frozen=True)
class Bound:
    """One run of a scenario: its own DIDs, its frames but for their seqs."""

    scenario: dsl.Scenario
    number: int
    steps: list[Message | dsl.Sql | dsl.Resolve | dsl.Gone]

    @property
    def mark(self) -> str:
        return _mark(self.number)


@dataclasses.dataclass(frozen=True)
class Message:
    """A frame without its seq."""

    kind: str
    body: dict[str, Any]

    def frame(self, seq: int) -> bytes:
        return frames.frame(self.kind, self.body | {"seq": seq})


def _mark(number: int) -> str:
    return f"-{number:04d}"


def bind(scenario: dsl.Scenario, number: int) -> Bound:
    """Give the scenario DIDs and CIDs of its own."""
    made: dict[str, str] = {}
    found = _replaced(scenario, number, made)
    messages: list[Message] = []
    steps: list[Message | dsl.Sql | dsl.Resolve | dsl.Gone] = []
    revs: dict[str, str] = {}
    for each in found.steps:
        step = _replaced(each, number, made)
        match step:
            case dsl.Event():
                messages.append(_message(step, len(messages) + 1, revs, made))
                steps.append(messages[-1])
            case dsl.Again(first, last):
                steps.extend(messages[first - 1 : last])
            case _:
                steps.append(step)
    return Bound(_replaced(found, number, made), number, steps)


def _replaced(value: V, number: int, made: dict[str, str]) -> V:
    """The value with marks and, where they are known, CIDs filled in."""

    def walk(found: Any) -> Any:
        match found:
            case str():
                named = _CID.fullmatch(found)
                if named:
                    return commits.cid_text(commits.cid_of(f"{number}/{named[1]}".encode()))
                if _MADE.fullmatch(found):
                    return made.get(found, found)
                return found.replace(dsl.MARK, _mark(number))
            case bytes():
                return found.replace(dsl.MARK.encode(), _mark(number).encode())
            case dict():
                return {walk(key): walk(each) for key, each in found.items()}
            case list() | tuple():
                return type(found)(map(walk, found))
            case _ if dataclasses.is_dataclass(found) and not isinstance(found, type):
                values = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
                return type(found)(**walk(values))
        return found

    done: V = walk(value)
    return done


def _message(event: dsl.Event, number: int, revs: dict[str, str], made: dict[str, str]) -> Message:
    time = event.at or dsl.T(number)
    match event:
        case dsl.Commit(ops=ops, body=changes):
            rev = event.rev or dsl.R(number)
            root, block = _commit_block(event.did, rev)
            blocks, listed = [(root, block)], []
            for place, op in enumerate(ops):
                entry: dict[str, Any] = {"action": op.action, "path": op.path, "cid": None}
                if op.record is not None:
                    data = op.record
                    data = data if isinstance(data, bytes) else libipld.encode_dag_cbor(data)
                    entry["cid"] = frames.cid_of(data)
                    made[dsl.op_cid(number, place)] = commits.cid_text(entry["cid"])
                    if op.carried:
                        blocks.append((entry["cid"], data))
                listed.append(entry)
            made[dsl.commit_cid(number)] = commits.cid_text(root)
            body = {
                "repo": event.did, "commit": root, "rev": rev, "since": revs.get(event.did),
                "time": time, "blocks": frames.car([root], blocks), "ops": listed,
                "tooBig": False, "rebase": False, "blobs": [],
            } | changes  # fmt: skip
            revs[event.did] = max(rev, revs.get(event.did, ""))
            return Message("#commit", body)
        case dsl.Sync(body=changes):
            rev = event.rev or dsl.R(number)
            root, block = _commit_block(event.did, rev)
            made[dsl.commit_cid(number)] = commits.cid_text(root)
            body = {"did": event.did, "rev": rev, "blocks": frames.car([root], [(root, block)])}
            return Message("#sync", body | {"time": time} | changes)
        case dsl.Account(active=active, status=status):
            body = {"did": event.did, "time": time, "active": active}
            return Message("#account", body | ({"status": status} if status else {}))
        case _:
            return Message("#identity", {"did": event.did, "time": time})


def _commit_block(did: str, rev: str) -> tuple[bytes, bytes]:
    fields = {"did": did, "rev": rev, "data": frames.cid_of(b"tree"), "prev": None}
    block = libipld.encode_dag_cbor({**fields, "version": 3, "sig": bytes(64)})
    return frames.cid_of(block), block


@dataclasses.dataclass(frozen=True)
class _Documents:
    """What the directory says."""

    aliases: dict[str, str | None]

    async def resolve(self, did: str) -> rules.Identity:
        alias = self.aliases.get(did)
        if alias is None:
            raise errors.UpstreamError(f"no document of {did}")
        return rules.Identity(did, alias, "Multikey", "z", "https://pds.test")


@dataclasses.dataclass(frozen=True)
class _Handles:
    """Where handles point to."""

    points: dict[str, str]

    async def resolve(self, handle: str) -> Answer:
        return Answer(self.points.get(handle.lower()))


class World:
    """A writer that owns every shard of one database, and what else may happen there."""

    def __init__(
        self,
        indexer: writer.Writer,
        deleter: deletion.Deleter,
        identity: asyncpg.Connection[Any],
        settler: Settler,
    ) -> None:
        self._writer = indexer
        self.deleter = deleter
        self.settler = settler
        self._identity = identity
        self._seq = 0
        self._runs = 0
        self._waiting: list[bytes] = []
        self._statements = sql.load("identity", state="headrace")

    @classmethod
    async def open(cls, database: str, shards: Iterable[int] = range(SHARDS)) -> Self:
        """A world that owns these shards; nobody else may own one of them."""
        settings = Settings(database_url=database)
        conn = await postgres.connect(settings, "test/0")
        await conn.execute("UPDATE headrace.deployment SET epoch = 'e'")
        built = await tables.load(conn, settings)

        async def share() -> list[int]:
            return list(shards)

        lease = await leases.claim(conn, built.sql, "test/0", share)
        held = await positions.load(conn, built.sql, streams.LIVE, lease.shards)
        indexer = writer.Writer(
            conn=conn,
            lease=lease,
            plan=built.plan,
            statements=built.statements,
            sql=built.sql,
            source=streams.LIVE,
            positions={shard: position.in_epoch("e") for shard, position in held.items()},
            clock=lambda: commits.NOW,
            stages=Stages(),
        )
        deleter = deletion.Deleter(
            conn=conn,
            lease=lease,
            statements=built.statements,
            sql=built.deletions,
            removals=built.removals,
            source=streams.LIVE,
            step_rows=3,
        )
        settler = Settler(
            conn=conn,
            lease=lease,
            plan=built.plan,
            statements=built.statements,
            sql=built.settling,
            clock=lambda: commits.NOW,
        )
        return cls(indexer, deleter, await postgres.connect(settings, "test/1"), settler)

    async def close(self) -> None:
        await self._writer.conn.close()
        await self._identity.close()

    def bind(self, scenario: dsl.Scenario) -> Bound:
        """A run of the scenario in this database."""
        self._runs += 1
        return bind(scenario, self._runs)

    async def play(self, steps: Iterable[Any], cut: Callable[[], bool]) -> int:
        """Do the steps in order; ``cut`` is asked after each event. Returns the batches."""
        batches = 0
        for step in steps:
            if isinstance(step, Message):
                self._seq += 1
                self._waiting.append(step.frame(self._seq))
                if cut():
                    batches += await self._flush()
                continue
            batches += await self._flush()
            match step:
                case dsl.Sql(statement, parameters):
                    await self._identity.execute(statement, *parameters)
                case dsl.Resolve():
                    await self._resolve(step)
                case dsl.Gone(did):
                    await self._confirm_deletion(did)
        return batches + await self._flush()

    async def play_frames(self, recorded: Iterable[bytes], cut: Callable[[], bool]) -> None:
        """Index messages of a relay as they are; later events come after the last of them."""
        for frame in recorded:
            self._waiting.append(frame)
            self._seq = max(self._seq, frame_seq(frame) or 0)
            if cut():
                await self._flush()
        await self._flush()

    async def _flush(self) -> int:
        if not self._waiting:
            return 0
        read = codec.decode_frames(
            self._waiting, relay=RELAY, generation=1, shards=SHARDS, allow=frames.ALLOW
        )
        self._waiting = []
        shards: dict[int, list[bytes]] = {}
        for shard, entry in read.entries():
            shards.setdefault(shard, []).append(entry)
        batch = [
            ShardEntries(
                shard,
                [b"%d-%d" % (self._seq, place + 1) for place in range(len(entries))],
                entries,
            )
            for shard, entries in sorted(shards.items())
        ]
        if not batch:
            return 0
        await self._writer.write(await self._writer.decode(batch))
        return 1

    async def _resolve(self, step: dsl.Resolve) -> None:
        """Look up all that is due and named, in the order in which it was asked for."""
        lookup = handles.Lookup(cast("Any", _Documents(step.aliases)), _Handles(step.points))
        asked = await self._identity.fetch(
            "SELECT did, seq, time, attempts FROM headrace.identity_due"
            " WHERE did = ANY($1) ORDER BY seq",
            list(step.aliases),
        )
        for row in asked:
            due = handles.Due(*row)
            try:
                handle = await lookup.handle(due, await lookup.dids.resolve(due.did))
            except errors.UpstreamError:
                continue
            await handles.write(self._identity, self._statements, due, handle)

    async def _confirm_deletion(self, did: str) -> None:
        """The host says that it is gone, and the owner deletes in the smallest steps."""
        await self._identity.execute(
            "UPDATE headrace.deletion SET confirmed_at = now() WHERE did = $1", did
        )
        await self.deleter.delete(did)

    async def differences(self, run: Bound) -> list[str]:
        """What is there and should not be, and what should be and is not."""
        return await differences(self._identity, run)

    async def snapshot(self) -> dict[str, list[str]]:
        """Every row of the data plane, in no order of ours."""
        names = await self._identity.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        return {
            name: [
                row[0]
                for row in await self._identity.fetch(f'SELECT t::text FROM "{name}" t ORDER BY 1')
            ]
            for (name,) in names
        }

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table of the data plane, or of ours with its schema."""
        return await _rows(self._identity, table, "")


async def differences(conn: asyncpg.Connection[Any], run: Bound) -> list[str]:
    """What a database has of a run and should not, and what it should have and has not."""
    found: list[str] = []
    for name, expected in run.scenario.rows.items():
        table, _, part = name.partition("@")
        found += rows.differences(name, expected, await _rows(conn, table, part or run.mark))
    letters = await _rows(conn, "headrace.dead_letter", run.mark)
    lost = [{"path": path, "reason": reason} for path, reason in run.scenario.lost]
    return found + rows.differences("dead letters", lost, letters)


async def _rows(conn: asyncpg.Connection[Any], table: str, mark: str) -> list[dict[str, Any]]:
    schema, _, name = f"public.{table}".rpartition(".")
    found = await conn.fetch(
        f'SELECT * FROM {schema.removeprefix("public.") or "public"}."{name}" t'
        " WHERE t::text LIKE $1",
        f"%{mark}%",
    )
    return [dict(row) for row in found]


def interleaved(runs: list[Bound], rng: random.Random) -> Iterator[Any]:
    """The steps of all runs, each run's in order."""
    left = [list(reversed(run.steps)) for run in runs if run.steps]
    while left:
        place = rng.randrange(len(left))
        yield left[place].pop()
        if not left[place]:
            left.pop(place)
