"""Starting a server that dies with us: the dangerous part of the embedded services.

Postgres refuses to run as root. Started by root it therefore runs in a user
namespace of its own, in which root is called 1000: the files stay ours, no
user is made, nothing is chowned. Where the kernel or a container forbids that,
it runs as the user ``postgres`` (or nobody) and owns its directory.

Everything between fork and exec is in ``_before_exec``. The kernel sends the
death signal when the *thread* that forked ends, so servers must be started
from a thread that lives as long as they should (the main thread). Without
Linux there is no death signal: stop servers explicitly.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import SettingsError, StoreError

_LINUX = sys.platform == "linux"
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_NAMESPACE_REFUSED = 125
_libc = ctypes.CDLL(None, use_errno=True)

SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path (sun_path holds 108 with its NUL)."""

LOCK_WAIT_SECONDS = 15.0
"""How long the processes of a dead launcher may take to let go of their directory."""


@dataclass(frozen=True)
class RunAs:
    """Whom a server runs as: ourselves, ourselves renamed in a namespace, or another user."""

    mode: Literal["direct", "namespace", "setuid"]
    uid: int = -1
    gid: int = -1


DIRECT = RunAs("direct")
NAMESPACE = RunAs("namespace")


def unprivileged() -> RunAs:
    """The user to become where a namespace is refused: ``postgres`` if there is one."""
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam("postgres")
        return RunAs("setuid", entry.pw_uid, entry.pw_gid)
    return RunAs("setuid", 65534, 65534)


def choose_run_as(harmless: Sequence[str]) -> RunAs:
    """How to run a server that refuses root.

    Args:
        harmless: a command that ends at once, run to learn whether the kernel allows a namespace.
    """
    if os.geteuid() != 0:
        return DIRECT
    if _LINUX:
        done = subprocess.run(  # noqa: S603
            harmless,
            preexec_fn=_before_exec(NAMESPACE, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode == 0:
            return NAMESPACE
    return unprivileged()


def _before_exec(run_as: RunAs, death_signal: int) -> Callable[[], None]:
    uid, gid, parent = os.geteuid(), os.getegid(), os.getpid()

    def child() -> None:
        if run_as.mode == "namespace":
            if _libc.unshare(_CLONE_NEWUSER) != 0:
                os._exit(_NAMESPACE_REFUSED)
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"1000 {uid} 1"),
                ("gid_map", f"1000 {gid} 1"),
            ):
                try:
                    fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
                    os.write(fd, text.encode())
                    os.close(fd)
                except OSError:
                    os._exit(_NAMESPACE_REFUSED)
        if _LINUX:
            # After every change of user: the kernel forgets the death signal at each.
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    return child


def spawn(
    command: Sequence[str],
    *,
    run_as: RunAs,
    death_signal: int,
    cwd: Path,
    log: Path,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a server in its own session (a terminal's Ctrl-C must not reach it before us).

    Raises:
        PermissionError: the other user may not execute the program.
    """
    as_user = run_as.mode == "setuid"
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            pass_fds=keep_open,
            preexec_fn=_before_exec(run_as, death_signal),
            user=run_as.uid if as_user else None,
            group=run_as.gid if as_user else None,
            extra_groups=[] if as_user else None,
        )


def private_directory(path: Path, run_as: RunAs = DIRECT) -> Path:
    """Make or adopt a directory that only its server's user may enter.

    Raises:
        SettingsError: it belongs to somebody else, is a link, or is no directory.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise SettingsError(f"{path} must be a directory, not a link or a file")
        if run_as.mode == "setuid" and found.st_uid == os.geteuid():
            os.chown(path, run_as.uid, run_as.gid)
        elif found.st_uid not in (os.geteuid(), run_as.uid):
            raise SettingsError(f"{path} belongs to user {found.st_uid}, not to this one")
        path.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"cannot use the directory {path}: {error}") from error
    return path


def take_lock(path: Path) -> int:
    """Lock a server's directory; returns the file descriptor that holds the lock.

    The descriptor is handed to the server, so the lock lasts until the last of
    its processes is gone, also after we were killed. Leftovers of a dead
    launcher are waited for, a living one is named.

    Raises:
        SettingsError: another running Headrace has the directory.
        StoreError: processes of a dead one do not end.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            if holder.isdigit() and int(holder) != os.getpid() and _alive(int(holder)):
                os.close(fd)
                raise SettingsError(
                    f"{path.parent} is in use by process {holder}: stop that one, or give this one "
                    "another DATA_DIR"
                ) from None
            if time.monotonic() > give_up:
                os.close(fd)
                raise StoreError(
                    f"a server left behind in {path.parent} does not end; see its log there"
                ) from None
            time.sleep(0.02)
        else:
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
            return fd


def is_locked(path: Path) -> bool:
    """Whether a server is running in the directory of this lock file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
