from __future__ import annotations

import pytest

from engine.core import streams, urls


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("relay.example", "wss://relay.example"),
        ("Relay.Example/", "wss://relay.example"),
        ("https://relay.example:443", "wss://relay.example"),
        ("http://127.0.0.1:2583/", "ws://127.0.0.1:2583"),
        ("ws://relay:80", "ws://relay"),
        ("localhost:3000", "wss://localhost:3000"),
        ("ws://[::1]:9", "ws://[::1]:9"),
    ],
)
def test_relay_url_is_one_spelling(written: str, url: str) -> None:
    assert urls.relay_url(written) == url
    assert streams.canonical_host(url) == url.partition("://")[2]


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:p%40w@h:5/d", "postgresql://u:***@h:5/d"),
        (
            "postgresql://u@h/d?password=x&sslmode=require",
            "postgresql://u@h/d?password=***&sslmode=require",
        ),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("unix:///run/v.sock?db=1", "unix:///run/v.sock?db=1"),
    ],
)
def test_masked_url_hides_passwords_only(url: str, masked: str) -> None:
    assert urls.masked_url(url) == masked
