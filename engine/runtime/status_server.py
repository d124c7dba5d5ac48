"""On METRICS_PORT: ``GET /status``, the JSON of ``headrace status --json``, and ``GET /metrics``.

Made to be polled: however many ask, the stores are read at most every
``FRESH_SECONDS``, and only when somebody asks.
"""

from __future__ import annotations

import asyncio
import errno
import logging

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from engine import log
from engine.ops import metrics
from engine.ops import status as report
from engine.ops.status import Status
from engine.ops.status_reader import StatusReader
from engine.settings import Settings

logger = logging.getLogger(__name__)

FRESH_SECONDS = 0.1
"""Age up to which a snapshot answers another question."""


class Snapshots:
    """The newest status, read again when it is asked for and too old."""

    def __init__(self, reader: StatusReader) -> None:
        self._reader = reader
        self._status: Status | None = None
        self._json = b""
        self._taken = 0.0
        self._lock = asyncio.Lock()

    async def status(self) -> Status:
        """A status not older than ``FRESH_SECONDS``."""
        async with self._lock:  # who waits here is answered by the reading it waited for
            now = asyncio.get_running_loop().time()
            if self._status is None or now - self._taken >= FRESH_SECONDS:
                self._status = await self._reader.collect()
                self._taken = asyncio.get_running_loop().time()
                self._json = report.render_json(self._status)
            return self._status

    async def json(self) -> bytes:
        """The same as a JSON document."""
        await self.status()
        return self._json


async def serve(settings: Settings, snapshots: Snapshots) -> web.AppRunner | None:
    """Listen on METRICS_HOST and METRICS_PORT; clean the runner up when done.

    A port in use is not worth stopping ingestion for: it is a warning, and None is returned.
    """

    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(body=await snapshots.json(), content_type="application/json")

    async def measure(request: web.Request) -> web.Response:
        del request
        body = metrics.render(await snapshots.status())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/status", answer)
    application.router.add_get("/metrics", measure)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, settings.metrics_host, settings.metrics_port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        reason = "in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
        logger.warning(
            "no status page: set METRICS_PORT or METRICS_HOST %s",
            log.fields(host=settings.metrics_host, port=settings.metrics_port, reason=reason),
        )
        return None
    host, port = runner.addresses[0][:2]
    logger.info("status page %s", log.fields(url=f"http://{host}:{port}/status"))
    return runner
