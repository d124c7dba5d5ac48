"""Which servers the engine works with, and how they must be set; checked once at every start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import SettingsError

POSTGRES_VERSIONS = range(15, 19)
"""Major versions the tests run on."""

_REDIS_OLDEST = (7, 0)
_VALKEY_OLDEST = (8, 0)


def check_postgres(major: int) -> None:
    """Refuse a Postgres that the engine is not made for.

    Raises:
        SettingsError: older or newer than supported.
    """
    if major not in POSTGRES_VERSIONS:
        raise SettingsError(
            f"DATABASE_URL leads to Postgres {major}; supported are "
            f"{POSTGRES_VERSIONS.start} to {POSTGRES_VERSIONS.stop - 1}"
        )


def check_redis(info: Mapping[str, Any]) -> str:
    """Refuse a Redis or Valkey that the engine is not made for.

    A stream is a single key, and so the unit of eviction: a server that forgets keys when it is
    full would forget all of a shard. One that refuses instead makes the ingester wait.

    Args:
        info: the reply of ``INFO`` (server, cluster, memory), as redis-py parses it.

    Returns:
        Its name and version, for logs.

    Raises:
        SettingsError: too old, a Redis Cluster, or one that evicts keys.
    """
    is_valkey = "valkey_version" in info
    name, oldest = ("Valkey", _VALKEY_OLDEST) if is_valkey else ("Redis", _REDIS_OLDEST)
    version = str(info.get("valkey_version" if is_valkey else "redis_version", "unknown"))
    parts = version.split(".")
    number = tuple(int(part) if part.isdigit() else 0 for part in parts[:2])
    if number < oldest:
        raise SettingsError(
            f"REDIS_URL leads to {name} {version}; needed is Redis "
            f"{_REDIS_OLDEST[0]}.{_REDIS_OLDEST[1]} or Valkey {_VALKEY_OLDEST[0]}.0, or newer"
        )
    mode = info.get("server_mode", info.get("redis_mode"))
    if str(info.get("cluster_enabled", 0)) == "1" or mode == "cluster":
        raise SettingsError("REDIS_URL leads to a Redis Cluster, which is not supported yet")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise SettingsError(
            f"REDIS_URL leads to a {name} with maxmemory-policy {policy}, which deletes whole "
            "streams when memory is full: set it to noeviction"
        )
    return f"{name} {version}"
