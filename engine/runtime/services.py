"""Which Redis and Postgres a process uses, and waiting until they answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from engine import log
from engine.adapters import embedded, postgres, resp, versions
from engine.core import urls
from engine.errors import SettingsError, StoreUnavailable
from engine.settings import Notice, Settings, advice

logger = logging.getLogger(__name__)

REPORT_SECONDS = 5.0
"""A server that is away is named this often while we wait for it."""

_RETRY_SECONDS = 0.25
_CONNECT_SECONDS = 10.0


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


def tell(notices: Iterable[Notice]) -> None:
    """Log what there is to say about the settings, one line each."""
    for notice in notices:
        level = logging.WARNING if notice.warns else logging.INFO
        logger.log(level, "setting %s: %s", notice.variable, notice.text)


async def wait_ready(settings: Settings, name: str, *, tells: bool = False) -> None:
    """Return once Redis and Postgres answer; waits as long as it takes, saying for what.

    Cancel it to give up.

    Args:
        settings: with both URLs.
        name: the process, as Postgres shall see it.
        tells: log what is dubious about the servers' own settings.

    Raises:
        SettingsError: a server answers but cannot be used: version, cluster, eviction, password,
            database.
    """
    redis_url = settings.redis_url or ""

    async def probe_redis() -> None:
        info = await _redis_info(redis_url)
        versions.check_redis(info)
        dubious = advice.memory_notice(settings, int(info.get("maxmemory", 0)))
        if tells and dubious is not None:
            tell([dubious])

    async def probe_postgres() -> None:
        connection = await postgres.connect(settings, name)
        connection.terminate()

    await _wait_for("Redis", "REDIS_URL", urls.masked_url(redis_url), probe_redis)
    place = postgres.place(settings.database_url or "")
    await _wait_for("Postgres", "DATABASE_URL", place, probe_postgres)


async def _wait_for(
    what: str, variable: str, place: str, probe: Callable[[], Awaitable[None]]
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    reported: float | None = None
    while True:
        try:
            await probe()
        except StoreUnavailable as error:
            now = loop.time()
            if reported is None or now - reported >= REPORT_SECONDS:
                reported = now
                logger.warning(
                    "waiting for %s %s", what, log.fields(at=place, setting=variable, error=error)
                )
        else:
            if reported is not None:
                waited = loop.time() - started
                logger.info("%s answers %s", what, log.fields(waited_seconds=waited))
            return
        await asyncio.sleep(_RETRY_SECONDS)


async def _redis_info(url: str) -> dict[str, str]:
    """What ``INFO`` says, all of it: sections have other names in other versions."""
    conn = await resp.RespConnection.open(url, timeout_seconds=_CONNECT_SECONDS)
    try:
        text: bytes = await conn.command("INFO", "all")
    except resp.ReplyError as error:
        raise SettingsError(f"REDIS_URL: INFO is answered with: {error}") from error
    finally:
        conn.close()
    lines = text.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
