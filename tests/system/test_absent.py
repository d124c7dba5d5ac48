"""Stores that are away, full, or not to be used: a clear word, and nothing lost afterwards."""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import redis

from engine import simulate
from engine.adapters import embedded
from tests.conftest import with_database
from tests.system import accounts
from tests.system.deployment import Deployment, Process, past, settle
from tests.system.golden import differences

pytestmark = [pytest.mark.services, pytest.mark.golden, pytest.mark.timeout(120)]

NETWORK = "golden"
LAST = 2184


@contextmanager
def deployment(
    shared: Path, tmp_path: Path, database: str, redis_url: str, rate: float = 0, **extra: str
) -> Iterator[Deployment]:
    log = tmp_path / "up.log"
    with (
        simulate.serve_in_thread(simulate.load(shared / NETWORK), rate=rate) as relay,
        Deployment(relay.settings, database, redis_url, log=log, extra=extra) as up,
    ):
        yield up


def status(up: Deployment, tmp_path: Path, code: int) -> dict[str, object]:
    """`headrace status --json`, whose log has no traceback."""
    asked = Process(("status", "--json"), up.environment, tmp_path / "status.log")
    asked.log.unlink(missing_ok=True)
    with asked:
        assert asked.wait(15) == code, asked.tail()
    text = asked.log.read_bytes()
    document: dict[str, object] = orjson.loads(text)
    return document


def test_stores_that_come_later_are_waited_for(
    shared: Path,
    tmp_path: Path,
    own_postgres: embedded.Postgres,
    own_valkey: embedded.Valkey,
) -> None:
    own_postgres.stop()
    own_valkey.stop()
    with deployment(shared, tmp_path, own_postgres.url, own_valkey.url) as up:
        up.until_says("waiting for Redis")
        errors = status(up, tmp_path, 1)["errors"]
        assert isinstance(errors, list)
        assert [error.partition(":")[0] for error in errors] == ["Redis", "Postgres"]
        own_valkey.start()
        up.until_says("waiting for Postgres")
        own_postgres.start()
        settle(up, LAST)
        assert status(up, tmp_path, 0)["errors"] == []
    assert not up.says("Traceback")
    assert differences(shared, NETWORK, own_postgres.url) == ""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["redis", "postgres"])
async def test_store_that_goes_away_for_a_while_loses_nothing(
    shared: Path,
    tmp_path: Path,
    own_postgres: embedded.Postgres,
    own_valkey: embedded.Valkey,
    which: str,
) -> None:
    store = own_valkey if which == "redis" else own_postgres
    with deployment(shared, tmp_path, own_postgres.url, own_valkey.url, rate=600) as up:
        up.wait_for("seq 500", past(500))
        store.kill()
        found = status(up, tmp_path, 1)
        assert isinstance(found["errors"], list)
        assert [error.partition(":")[0].lower() for error in found["errors"]] == [which]
        page = up.status()
        assert page["errors"]
        await asyncio.sleep(2)
        store.start()
        settle(up, LAST)
    assert not up.says("Traceback")
    assert not up.says("which is a bug")
    assert differences(shared, NETWORK, own_postgres.url) == ""
    await accounts.add_up(own_postgres.url, own_valkey.url, at_least=3001)


async def test_redis_at_its_memory_limit_is_waited_for(
    shared: Path, tmp_path: Path, database: str
) -> None:
    """So little memory that the network does not fit, and an indexer that comes late."""
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp") as folder:
        valkey = embedded.Valkey(Path(folder), persist=False, max_memory_bytes=3_500_000)
        with valkey, simulate.serve_in_thread(simulate.load(shared / NETWORK)) as relay:
            up = Deployment(
                relay.settings,
                database,
                valkey.url,
                log=tmp_path / "up.log",
                arguments=["--roles", "firehose,identity"],
                extra={"INGESTER_BATCH_SIZE": "50"},
            )
            with up:
                up.until_says("backpressure begins")
                assert up.says("Redis is full")
                held = up.wait_for("something", past(10))
                assert next(iter(held["relays"].values()))["received_seq"] < LAST
                indexer = Process(("run", "indexer"), up.environment, tmp_path / "indexer.log")
                with indexer:
                    settle(up, LAST)
            await accounts.add_up(database, valkey.url, at_least=3001)
    assert not up.says("Traceback")
    assert not indexer.says("Traceback")
    assert differences(shared, NETWORK, database) == ""


@pytest.mark.parametrize(
    "arguments", [("up",), ("run", "firehose"), ("run", "indexer"), ("run", "identity")]
)
def test_unknown_database_is_refused(
    database: str, redis_url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    environ = {
        "DATABASE_URL": with_database(database, "no_such_database"),
        "REDIS_URL": redis_url,
        "METRICS_PORT": "0",
    }
    with Process(arguments, environ, tmp_path / "log") as process:
        assert process.wait(20) == 2
    assert re.search(r'database \\?"no_such_database\\?" does not exist', process.tail())
    assert process.says("DATABASE_URL")
    assert not process.says("Traceback")


@pytest.mark.parametrize("arguments", [("up",), ("run", "indexer"), ("status", "--json")])
def test_wrong_redis_password_is_refused(
    database: str, own_valkey: embedded.Valkey, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.config_set("requirepass", "right")
    for password in ("", "?password=wrong"):
        environ = {
            "DATABASE_URL": database,
            "REDIS_URL": own_valkey.url + password,
            "METRICS_PORT": "0",
        }
        process = Process(arguments, environ, tmp_path / f"log{len(password)}")
        with process:
            code = process.wait(20)
        if arguments[0] == "status":
            assert code == 1
            assert orjson.loads(process.log.read_bytes())["errors"][0].startswith("Redis: ")
            continue
        assert code == 2, process.tail()
        assert process.says("REDIS_URL")
        assert re.search(r"(?i)auth|password", process.tail())
        assert not process.says("Traceback")


def test_wrong_postgres_password_is_refused(
    own_postgres: embedded.Postgres, redis_url: str, tmp_path: Path
) -> None:
    rules = own_postgres.data / "pg_hba.conf"
    rules.write_text("local all all scram-sha-256\n")
    own_postgres.restart()
    url = own_postgres.url.replace("postgres@", "postgres:secret-word@")
    environ = {"DATABASE_URL": url, "REDIS_URL": redis_url, "METRICS_PORT": "0"}
    with Process(("up",), environ, tmp_path / "log") as process:
        assert process.wait(20) == 2
    assert process.says("password authentication failed")
    assert not process.says("secret-word")
    assert not process.says("Traceback")


def test_redis_cluster_is_refused(database: str, short_dir: Path, tmp_path: Path) -> None:
    class Cluster(embedded.Valkey):
        def _prepare(self) -> list[str]:
            return [*super()._prepare(), "--cluster-enabled", "yes"]

        def _answers(self, process: object) -> bool:
            return self.socket.exists()

    # A cluster cannot have more than one database before version 9, nor a port of 0 in some.
    with Cluster(short_dir / "cluster", persist=False, databases=1) as valkey:
        environ = {"DATABASE_URL": database, "REDIS_URL": valkey.url, "METRICS_PORT": "0"}
        with Process(("up",), environ, tmp_path / "log") as process:
            assert process.wait(20) == 2
        assert process.says("REDIS_URL leads to a Redis Cluster, which is not supported yet")


def test_up_waiting_for_a_store_ends_at_a_signal(
    database: str, own_valkey: embedded.Valkey, tmp_path: Path
) -> None:
    own_valkey.stop()
    environ = {"DATABASE_URL": database, "REDIS_URL": own_valkey.url, "METRICS_PORT": "0"}
    for arguments in (("up",), ("run", "indexer"), ("run", "firehose"), ("run", "identity")):
        with Process(arguments, environ, tmp_path / f"{arguments[-1]}.log") as process:
            process.until_says("waiting for Redis")
            process.signal(signal.SIGTERM)
            assert process.wait(30) == 0, "else it was ended, or the store was waited for"
        assert process.says("reason=SIGTERM")
