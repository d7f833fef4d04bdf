"""`/health` for homeport, `/` for everybody."""

import sqlite3
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from scraper import __version__
from scraper.crawl import Crawler
from scraper.settings import Settings
from scraper.store import Store


class Pages:
    """The two routes. Healthy means: it answers, the database can be read, the last write to it succeeded."""

    def __init__(self, settings: Settings, store: Store, crawler: Crawler) -> None:
        self._settings = settings
        self._store = store
        self._crawler = crawler

    def application(self) -> web.Application:
        """What the server runs."""
        application = web.Application()
        application.router.add_get("/health", self.health)
        application.router.add_get("/", self.newest)
        return application

    async def health(self, _request: web.Request) -> web.Response:
        """200 or 503. A gallery that cannot be reached is told, but is no fault of this program."""
        body: dict[str, Any] = {
            "status": "healthy",
            "version": __version__,
            "revision": self._settings.revision,
        }
        try:
            summary = await self._store.summary()
        except sqlite3.Error as error:
            return web.json_response(body | {"status": "unhealthy", "problem": str(error)}, status=503)
        body["records"] = summary.records
        body["age_seconds"] = (
            None if summary.newest is None else round(max(0.0, time.time() - summary.newest), 1)
        )
        body["last_scrape"] = asdict(self._crawler.last) if self._crawler.last else None
        if self._store.problem:
            return web.json_response(
                body | {"status": "unhealthy", "problem": self._store.problem}, status=503
            )
        return web.json_response(body)

    async def newest(self, request: web.Request) -> web.Response:
        """The newest records, `?limit=` of them (50; at most 1000)."""
        wanted = request.query.get("limit", "50")
        if not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted[:9]) <= 1000):
            return web.json_response({"problem": "limit must be a number from 1 to 1000"}, status=400)
        records = await self._store.newest(int(wanted))
        for record in records:
            record["scraped_at"] = datetime.fromtimestamp(record["scraped_at"], UTC).isoformat()
        return web.json_response(records)
