"""Who is who and who is active, through a whole deployment and real sockets.

The scenarios of identities, accounts and damaged commits run side by side, each with DIDs of its
own: their frames come through a relay, and the identity role asks a directory, a name server and
hosts, which know nothing, fail or answer as each scenario has it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from engine import simulate
from engine.adapters import embedded
from engine.simulate.server import Server
from tests.fix_dns import NameServer, serve_names
from tests.scenarios import accounts, dsl, identity, run
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]
ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")

SCENARIOS = {each.id: each for each in (*identity.IDENTITY, *accounts.ACCOUNTS)}
HOSTS = OLD, NEW = "https://old.test", "https://new.test"
AWAY = (502, "UpstreamFailure")
SECONDS = 60.0
LABEL = ("did:plc:labeler", "did:plc:someone", "", "spam", False, "2026-01-01T00:00:00Z")


def document(did: str, alias: str | None, host: str = NEW) -> dict[str, Any]:
    """Without an alias, it is of no use for a look-up of the handle, but names a host."""
    found: dict[str, Any] = {
        "id": did,
        "verificationMethod": [{"id": "#atproto", "type": "Multikey", "publicKeyMultibase": "z"}],
        "service": [
            {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": host}
        ],
    }
    return found | ({"alsoKnownAs": [f"at://{alias}"]} if alias else {})


class World:
    """A deployment at work, the network that it asks, and the rows."""

    def __init__(
        self,
        conn: asyncpg.Connection[Any],
        up: Deployment,
        relay: Server,
        names: NameServer,
    ) -> None:
        self.conn = conn
        self.up = up
        self.relay = relay
        self.names = names
        self.network = relay.network
        self._numbers = iter(range(1, 10_000))
        self._seq = 0
        self._lock = asyncio.Lock()

    def bind(self, scenario: dsl.Scenario) -> run.Bound:
        return run.bind(scenario, next(self._numbers))

    async def fetch(self, query: str, *parameters: object) -> list[asyncpg.Record]:
        async with self._lock:  # one connection for all runs
            return await self.conn.fetch(query, *parameters)

    async def until(self, what: str, condition: Callable[[], Any]) -> Any:
        """Ask again until an answer is true, or is a true value."""
        try:
            async with asyncio.timeout(SECONDS):
                while not (found := await condition()):
                    await asyncio.sleep(0.1)
                return found
        except TimeoutError:
            raise AssertionError(f"{what}: not within {SECONDS} s\n{self.up.tail()}") from None

    async def publish(self, *messages: run.Message) -> None:
        """Frames through the relay; returns when all are indexed."""
        for message in messages:
            self._seq += 1
            self.relay.publish(message.frame(self._seq))
        last = self._seq

        async def indexed() -> bool:
            rows = await self.fetch(
                "SELECT coalesce(min((SELECT max((value ->> 'seq')::bigint)"
                " FROM jsonb_each(relays))), 0) AS seq FROM headrace.position"
                " WHERE source = 'firehose_live'"
            )
            return bool(rows[0]["seq"] >= last)

        await self.until(f"seq {last} indexed", indexed)

    def unknown(self, did: str) -> None:
        """Its document is of no use for a handle, and its host answers nothing."""
        self.network.documents[did] = document(did, None)
        self.relay.refusals[did] = AWAY

    async def resolve(self, step: dsl.Resolve) -> None:
        """Everybody answers about these DIDs, for one look-up each of what is due."""
        for did, alias in step.aliases.items():
            self.network.documents[did] = document(did, alias)
        for handle, did in step.points.items():
            self.names.table[f"_atproto.{handle}"] = [f"did={did}"]
        named = {did: bool(alias) for did, alias in step.aliases.items()}
        due = "SELECT did, attempts FROM headrace.identity_due WHERE did = ANY($1)"
        before = {row["did"]: row["attempts"] for row in await self.fetch(due, list(named))}

        async def looked_up() -> bool:
            rows = await self.fetch(due, list(named))
            left = [
                row["did"]
                for row in rows
                if named[row["did"]] or row["attempts"] <= before.get(row["did"], 0)
            ]
            # A look-up that began before the answers changed may put it off once more.
            await self.fetch(
                "UPDATE headrace.identity_due SET next_attempt_at = now() WHERE did = ANY($1)", left
            )
            return not left

        await self.until(f"{list(named)} looked up", looked_up)
        for did in named:
            self.network.documents[did] = document(did, None)

    async def delete(self, did: str) -> None:
        """Its host has no such repository any more; returns when its rows are gone."""
        del self.relay.refusals[did]

        async def gone() -> bool:
            await self.fetch(
                "UPDATE headrace.deletion SET next_attempt_at = now() WHERE did = $1", did
            )
            return not await self.fetch("SELECT FROM headrace.deletion WHERE did = $1", did)

        await self.until(f"{did} deleted", gone)
        self.relay.refusals[did] = AWAY

    async def play(self, bound: run.Bound) -> None:
        """One scenario, step by step."""
        waiting: list[run.Message] = []
        for step in bound.steps:
            if isinstance(step, run.Message):
                self.unknown(step.body.get("repo") or step.body["did"])
                waiting.append(step)
                continue
            await self.publish(*waiting)
            waiting = []
            match step:
                case dsl.Resolve():
                    await self.resolve(step)
                case dsl.Gone(did):
                    await self.delete(did)
                case _:
                    raise AssertionError(step)
        if waiting:
            await self.publish(*waiting)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    hosts = {f"did:plc:at{host[8:11]}": document("", None, host) for host in HOSTS}
    network = simulate.Network(simulate.MemoryFrames(), documents=hosts)
    log = tmp_path_factory.mktemp("accounts") / "up.log"
    conn = await asyncpg.connect(module_database)
    await conn.execute(
        "INSERT INTO label (src, uri, cid, val, neg, cts) VALUES ($1, $2, $3, $4, $5, $6)", *LABEL
    )
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp") as folder:
        async with serve_names() as names:
            names.otherwise = ["did=did:plc:nobody"]
            with (
                embedded.Valkey(Path(folder), persist=False) as valkey,
                simulate.serve_in_thread(network) as relay,
                Deployment(
                    {
                        **relay.settings,
                        "IDENTITY_HANDLE_RESOLVER": "",
                        "IDENTITY_NAME_SERVERS": f"127.0.0.1:{names.port}",
                    },
                    module_database,
                    valkey.url,
                    log=log,
                ) as up,
            ):
                yield World(conn, up, relay, names)
    await conn.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runs(world: World) -> dict[str, run.Bound]:
    """Every scenario, played at the same time; the directory is away when they begin."""
    bound = {name: world.bind(scenario) for name, scenario in SCENARIOS.items()}
    world.relay.identity_status = 503
    playing = asyncio.gather(*map(world.play, bound.values()))
    failed = " UNION ALL ".join(
        f"SELECT last_error FROM headrace.{table} WHERE last_error LIKE '%503%'"
        for table in ("identity_due", "deletion", "status_due")
    )
    await world.until("a question that the directory refused", lambda: world.fetch(failed))
    world.relay.identity_status = 200
    await playing
    return bound


@ON_ONE_LOOP
@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario(world: World, runs: dict[str, run.Bound], name: str) -> None:
    found = await run.differences(world.conn, runs[name])
    assert not found, "\n".join([SCENARIOS[name].why, *found])


@ON_ONE_LOOP
async def test_indexing_leaves_labels_untouched(world: World, runs: dict[str, run.Bound]) -> None:
    assert len(runs) > 50
    rows = await world.fetch("SELECT src, uri, cid, val, neg, cts FROM label")
    assert [tuple(row) for row in rows] == [LABEL]


class Person(str):
    """A DID that no scenario has, with what a test does to it."""

    def status(self, number: int, status: str | None, *, day: int = 1) -> run.Message:
        """The ``number``-th thing that is said of it."""
        time = f"2026-11-{day:02}T10:00:{number:02}.000Z"
        body = {"did": str(self), "time": time, "active": status is None}
        return run.Message("#account", body | ({"status": status} if status else {}))

    def identity(self, number: int) -> run.Message:
        return run.Message(
            "#identity", {"did": str(self), "time": f"2026-11-01T11:00:{number:02}Z"}
        )

    @property
    def handle(self) -> str:
        return f"{self.removeprefix('did:plc:')}.test"


def lives(world: World, person: str, host: str = NEW, **state: Any) -> None:
    """It has its home and its repository at a host that answers."""
    world.network.documents[person] = document(person, None, host)
    world.network.repos.append({"did": person, "head": "bafy", "rev": "3kaaaaaaaaa22", **state})


async def upstream(world: World, person: str) -> str | None:
    rows = await world.fetch('SELECT "upstreamStatus" FROM actor WHERE did = $1', person)
    assert rows, "the actor has a row from its first event on"
    status: str | None = rows[0][0]
    return status


def asked_no_more(world: World, table: str, person: str) -> Callable[[], Any]:
    async def nothing_due() -> bool:
        again = f"UPDATE headrace.{table} SET next_attempt_at = now() WHERE did = $1"
        await world.fetch(again, person)
        return not await world.fetch(f"SELECT FROM headrace.{table} WHERE did = $1", person)

    return nothing_due


@ON_ONE_LOOP
async def test_a_late_word_of_the_old_host_does_not_deactivate(world: World) -> None:
    """The status is the event's until the present host says otherwise, and that host is down."""
    mover = Person("did:plc:mover")
    lives(world, mover, active=True)
    world.relay.refusals[mover] = AWAY
    await world.publish(mover.status(1, None), mover.status(2, "deactivated"))
    assert await upstream(world, mover) == "deactivated"
    failed = "SELECT FROM headrace.status_due WHERE did = $1 AND last_error LIKE '%502%'"
    await world.until("a host that is down", lambda: world.fetch(failed, mover))
    assert await upstream(world, mover) == "deactivated"
    del world.relay.refusals[mover]
    await world.until("its present host asked", asked_no_more(world, "status_due", mover))
    assert await upstream(world, mover) is None


@ON_ONE_LOOP
@pytest.mark.parametrize("status", ["deactivated", "suspended", "takendown"])
async def test_what_the_present_host_does_not_deny_stays(world: World, status: str) -> None:
    """Of what a relay may say by itself, the host is not asked."""
    person = Person(f"did:plc:rests-{status}")
    lives(world, person, active=status != "deactivated", status=status)
    await world.publish(person.status(1, status))
    await world.until("its host asked", asked_no_more(world, "status_due", person))
    assert await upstream(world, person) == status


@ON_ONE_LOOP
async def test_an_account_that_its_old_host_deleted_lives(world: World) -> None:
    """The old host says so first, then the document names the new one, which has it."""
    mover = Person("did:plc:moved")
    lives(world, mover, OLD)
    world.relay.refusals[mover] = AWAY
    await world.publish(mover.status(1, None), mover.status(2, "deleted"))
    world.network.documents[mover] = document(mover, None, NEW)
    del world.relay.refusals[mover]
    await world.until("its present host asked", asked_no_more(world, "deletion", mover))
    assert await upstream(world, mover) is None
    assert not world.up.says(f"account deleted did={mover}")


@ON_ONE_LOOP
async def test_an_account_that_only_its_old_host_has_is_deleted(world: World) -> None:
    leaver = Person("did:plc:leaver")
    lives(world, leaver, OLD)
    await world.publish(leaver.status(1, None))
    world.network.documents[leaver] = document(leaver, None, NEW)
    # Repositories are where documents say: the old host's is out of reach, the new one has none.
    world.network.repos[:] = [repo for repo in world.network.repos if repo["did"] != leaver]
    await world.publish(leaver.status(2, "deleted"))
    gone = asked_no_more(world, "deletion", leaver)
    await world.until("the present host asked, and its rows deleted", gone)
    assert await world.fetch("SELECT FROM actor WHERE did = $1", leaver) == []


@ON_ONE_LOOP
async def test_the_newer_event_keeps_a_handle_that_two_have(world: World) -> None:
    older, newer = Person("did:plc:older"), Person("did:plc:newer")
    world.unknown(older)
    world.unknown(newer)
    await world.publish(older.identity(1), newer.identity(2))
    shared = newer.handle
    await world.resolve(dsl.Resolve({newer: shared}, {shared: newer}))
    await world.resolve(dsl.Resolve({older: shared}, {shared: older}))
    rows = await world.fetch("SELECT did, handle FROM actor WHERE did IN ($1, $2)", older, newer)
    assert dict(map(tuple, rows)) == {older: None, newer: shared}
    await world.publish(older.identity(3))
    await world.resolve(dsl.Resolve({older: shared}, {shared: older}))
    rows = await world.fetch("SELECT did, handle FROM actor WHERE did IN ($1, $2)", older, newer)
    assert dict(map(tuple, rows)) == {older: shared, newer: None}
