"""A store that accepts connections and answers nothing: a stop still works, in time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine import simulate
from engine.adapters import embedded
from engine.runtime.worker import STOP_SECONDS
from tests.system.deployment import Deployment, alive, descendants, past

pytestmark = [pytest.mark.services, pytest.mark.timeout(90), pytest.mark.slow]


@pytest.mark.parametrize(
    ("which", "wait_seconds"), [("redis", 4.0), ("postgres", 0.3), ("both", 0.3)]
)
def test_term_ends_up_while_stores_are_frozen(
    busy_network: simulate.Network,
    own_postgres: embedded.Postgres,
    own_valkey: embedded.Valkey,
    tmp_path: Path,
    which: str,
    wait_seconds: float,
) -> None:
    frozen: list[int] = []
    if which in ("redis", "both"):
        assert own_valkey.process is not None
        frozen.append(own_valkey.process.pid)
    with simulate.serve_in_thread(busy_network, rate=3000) as relay:
        up = Deployment(
            relay.settings,
            own_postgres.url,
            own_valkey.url,
            log=tmp_path / "up.log",
            arguments=["--until-caught-up"],
        )
        with up:
            up.wait_for("frames", past(500))
            if which in ("postgres", "both"):
                assert own_postgres.process is not None
                server = own_postgres.process.pid
                frozen += [server, *descendants(server)]
            below = descendants(up.pid)
            try:
                for pid in frozen:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(wait_seconds)
                at = up.signal()
                code = up.wait(15)
                took = time.monotonic() - at
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
    assert not any(map(alive, below))
    assert took < STOP_SECONDS + 1
    assert code in (0, 1)  # 1: a process had to be ended, which loses nothing that is committed
    assert up.says("INFO up stopped reason=SIGTERM")
