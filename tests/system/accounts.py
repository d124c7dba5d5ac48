"""Law 3, judged from outside: every op received has an outcome."""

from __future__ import annotations

import asyncpg
import redis


async def outcomes(database_url: str) -> dict[str, int]:
    """Ops with an outcome in Postgres, by relay generation ("host/generation")."""
    conn = await asyncpg.connect(database_url)
    try:
        rows = await conn.fetch(
            "SELECT r.key, sum(o.value::bigint)::bigint AS ops FROM headrace.position p,"
            " jsonb_each(p.relays) r, jsonb_each_text(r.value) o WHERE o.key <> 'seq'"
            " GROUP BY r.key"
        )
    finally:
        await conn.close()
    return {row["key"]: row["ops"] for row in rows}


async def by_outcome(database_url: str) -> dict[str, int]:
    """Ops by outcome, of all relays."""
    conn = await asyncpg.connect(database_url)
    try:
        rows = await conn.fetch(
            "SELECT o.key, sum(o.value::bigint)::bigint AS ops FROM headrace.position p,"
            " jsonb_each(p.relays) r, jsonb_each_text(r.value) o WHERE o.key <> 'seq'"
            " GROUP BY o.key"
        )
    finally:
        await conn.close()
    return {row["key"]: row["ops"] for row in rows}


def received(redis_url: str) -> dict[str, int]:
    """Ops that the ingester says it received."""
    found = {}
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for key in client.scan_iter("firehose_live:received:*"):
            host = key.removeprefix("firehose_live:received:")
            for generation, ops in client.hgetall(key).items():
                found[f"{host}/{generation}"] = int(ops)
    return found


async def add_up(database_url: str, redis_url: str, *, at_least: int) -> None:
    """Everything received has an outcome, nothing being in flight any more."""
    told = received(redis_url)
    assert told
    assert told == await outcomes(database_url)
    assert sum(told.values()) >= at_least
