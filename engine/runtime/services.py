"""Which Redis and Postgres a process uses, and waiting until they answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import msgspec
import redis.asyncio
import redis.exceptions

from engine import log
from engine.adapters import embedded, versions
from engine.core import urls
from engine.errors import SettingsError, StoreUnavailable
from engine.settings import Settings

logger = logging.getLogger(__name__)

REPORT_SECONDS = 5.0
"""A server that is away is named this often while we wait for it."""

_RETRY_SECONDS = 0.25
_CONNECT_SECONDS = 5.0


def with_urls(settings: Settings) -> Settings:
    """The settings with both URLs: given ones, else those of the services `up` runs in DATA_DIR.

    Raises:
        SettingsError: a URL is missing and nothing runs there.
    """
    if settings.database_url and settings.redis_url:
        return settings
    missing = " and ".join(
        name
        for name, url in (
            ("DATABASE_URL", settings.database_url),
            ("REDIS_URL", settings.redis_url),
        )
        if not url
    )
    try:
        running = embedded.running_urls(Path(settings.data_dir))
    except SettingsError:  # no binaries to run any: then none runs
        running = None
    if running is None:
        raise SettingsError(
            f"{missing} not set, and no `headrace up` runs embedded services in DATA_DIR "
            f"({settings.data_dir}): set it, or start `headrace up`"
        )
    return msgspec.structs.replace(
        settings,
        database_url=settings.database_url or running[0],
        redis_url=settings.redis_url or running[1],
    )


async def wait_ready(settings: Settings) -> None:
    """Return once Redis and Postgres answer; waits as long as it takes, saying for what.

    Cancel it to give up.

    Raises:
        SettingsError: a server answers but cannot be used: version, cluster, password, database.
    """
    assert settings.redis_url
    assert settings.database_url
    await _wait_for("Redis", "REDIS_URL", settings.redis_url, _probe_redis)
    await _wait_for("Postgres", "DATABASE_URL", settings.database_url, _probe_postgres)


async def _wait_for(
    what: str, variable: str, url: str, probe: Callable[[str], Awaitable[str]]
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    reported = started - REPORT_SECONDS
    while True:
        try:
            found = await probe(url)
        except StoreUnavailable as error:
            now = loop.time()
            if now - reported >= REPORT_SECONDS:
                reported = now
                logger.warning(
                    "waiting for %s %s",
                    what,
                    log.fields(url=urls.masked_url(url), setting=variable, error=error),
                )
        else:
            if reported >= started:
                logger.info("%s answers %s", what, log.fields(version=found))
            return
        await asyncio.sleep(_RETRY_SECONDS)


async def _probe_redis(url: str) -> str:
    client = redis.asyncio.Redis.from_url(
        url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_CONNECT_SECONDS
    )
    try:
        return versions.check_redis(await client.info("server", "cluster"))
    except redis.exceptions.AuthenticationError as error:
        raise SettingsError(f"REDIS_URL: {error}") from error
    except (redis.exceptions.RedisError, OSError, ValueError, TimeoutError) as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error
    finally:
        await client.aclose()


async def _probe_postgres(url: str) -> str:
    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS)
    except asyncpg.CannotConnectNowError as error:
        raise StoreUnavailable(str(error)) from error
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.ClientConfigurationError,
    ) as error:
        raise SettingsError(f"DATABASE_URL: {error}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error
    try:
        versions.check_postgres(int(await connection.fetchval("SHOW server_version_num")))
        return str(await connection.fetchval("SHOW server_version"))
    finally:
        connection.terminate()
