"""``headrace demo``: a small network from nothing to rows, without any other machine."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from engine import settings as settings_module
from engine import simulate, sql
from engine.adapters import binaries, embedded, postgres
from engine.errors import SettingsError
from engine.runtime import supervisor
from engine.settings import Settings

OPS = 5000
"""Enough that progress is seen, few enough that nobody waits."""

_OURS = ("network", "postgres", "valkey")


def run(data_dir: Path, *, keep: bool) -> int:
    """Generate, serve, index, and show what came of it; the exit code.

    Args:
        data_dir: made anew each time: what an earlier demo left there is removed.
        keep: go on running afterwards, until a signal, so that one can look around.

    Raises:
        SettingsError: a demo runs there already.
    """
    if embedded.running_urls(data_dir):
        raise SettingsError(f"a demo runs in {data_dir} already; give another --data-dir")
    for name in _OURS:
        shutil.rmtree(data_dir / name, ignore_errors=True)
    folder = data_dir / "network"
    folder.mkdir(parents=True, mode=0o700)
    print(f"1. A network of our own, {OPS} record operations, in {folder}", flush=True)
    simulate.generate(folder, ops=OPS, seed=1)
    with simulate.serve_in_thread(simulate.load(folder)) as relay:
        print(f"2. Its relay, its PLC directory and its hosts on {relay.url}", flush=True)
        environ = _environ(relay.settings, data_dir)
        loaded = settings_module.load_with_sources(environ=environ)
        print(f"3. headrace up, with Postgres and Valkey of its own in {data_dir}", flush=True)
        started = time.monotonic()

        async def show(settings: Settings) -> None:
            print(f"\nAll of it is indexed, {time.monotonic() - started:.1f} s after the start.")
            await _show_rows(settings)
            _show_where_to_look(settings, data_dir, keep=keep)

        return supervisor.up(
            loaded, until_caught_up=not keep, progress=True, environ=environ, on_caught_up=show
        )


def _environ(served: dict[str, str], data_dir: Path) -> dict[str, str]:
    """Our environment, without the settings of another deployment."""
    ours = settings_module.variables()
    rest = {name: value for name, value in os.environ.items() if name not in ours}
    demo = {
        "DATA_DIR": str(data_dir),
        "METRICS_PORT": "0",
        "LOG_LEVEL": "warning",
    }
    return rest | served | demo


async def _show_rows(settings: Settings) -> None:
    statements = sql.load("demo", state=settings.database_state_schema)
    conn = await postgres.connect(settings, "demo")
    try:
        tables = [
            row["name"] for row in await conn.fetch(statements["tables"], settings.database_schema)
        ]
        count = sql.count_rows(settings.database_schema, tables)
        counts = await conn.fetchrow(count) or {}
        posts = await conn.fetch(statements["posts"])
        repositories = await conn.fetch(statements["repositories"])
        letters = await conn.fetch(statements["dead_letters"])
    finally:
        await conn.close()
    print("\nRows:")
    for name, rows in counts.items():
        if rows:
            print(f"  {name:28}{rows:>9,}")
    print("\nRepositories, fetched from their hosts and proved beside the live events:")
    for found in repositories:
        print(f"  {found['outcome']:28}{found['repositories']:>9,}")
    print("\nDead letters, for the network has bad data on purpose:")
    for letter in letters:
        print(f"  {letter['reason']:28}{letter['rows']:>9,}")
    print("\nThe newest posts:")
    for post in posts:
        text = " ".join(post["text"].split())
        print(f"  {post['handle'] or post['creator']}: {text[:60]}")


def _show_where_to_look(settings: Settings, data_dir: Path, *, keep: bool) -> None:
    psql = binaries.find_postgres() / "psql"
    socket = embedded.Valkey(data_dir).socket
    print("\nWhere to look, " + ("now, from another terminal:" if keep else "while it runs:"))
    print(f"  {psql} '{settings.database_url}'")
    print(f"  redis-cli -s {socket}")
    command = _command()
    print(f"  DATA_DIR={data_dir} {command} status")
    if not keep:
        print(f"It ends now; `{command} demo --keep` goes on running.")
    print(
        f"\nThe real network: `{command} up` reads the relays of INGESTER_RELAY_HOSTS, by default\n"
        f"  {', '.join(Settings().ingester.relay_hosts)}\n"
        f"into DATABASE_URL over REDIS_URL; make the tables there with `{command} schema create`.\n"
        "Every setting: docs/SETTINGS.md.",
        flush=True,
    )


def _command() -> str:
    """How to type ``headrace`` here: as a path where this one is inside the working directory."""
    path = Path(sys.executable).parent / "headrace"
    here = Path.cwd()
    return (
        str(path.relative_to(here)) if path.is_relative_to(here) and path.exists() else "headrace"
    )
