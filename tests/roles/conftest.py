"""Fixtures of the roles' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import fix_relay
from tests.fix_ingest import Ingest
from tests.fix_relay import Relay


@pytest.fixture
async def ingest(database: str, redis_url: str) -> AsyncIterator[Ingest]:
    """One relay with an empty log; nothing runs yet."""
    async with fix_relay.running(Relay()) as relay:
        yield Ingest(database, redis_url, [relay], {})
