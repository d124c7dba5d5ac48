from __future__ import annotations

from engine.ops.status import Relay, Status
from engine.runtime.supervisor import SILENCE_SECONDS, Silence


def status(received: int, indexed: int, *, connected: bool = True) -> Status:
    relay = Relay(received, indexed, generation=1, lag_seconds=0.0, connected=connected)
    return Status(relays={"r": relay})


def test_silence_is_true_after_two_quiet_seconds() -> None:
    silence = Silence(["r"], ["firehose"])
    assert not silence.observe(status(5, 5), 10.0)
    assert not silence.observe(status(5, 5), 10.0 + SILENCE_SECONDS - 0.01)
    assert silence.observe(status(5, 5), 10.0 + SILENCE_SECONDS)


def test_silence_begins_again_with_a_frame_or_anything_open() -> None:
    for interruption in (status(6, 6), status(6, 5), status(5, 5, connected=False)):
        silence = Silence(["r"], ["firehose"])
        assert not silence.observe(status(5, 5), 10.0)
        assert not silence.observe(interruption, 11.5)
        assert not silence.observe(status(6, 6), 12.5)
        assert silence.observe(status(6, 6), 12.5 + SILENCE_SECONDS)
