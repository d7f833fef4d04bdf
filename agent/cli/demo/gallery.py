"""The gallery that the demo's scraper reads: deterministic pages on loopback, more of them as time goes by.

Twelve workflows to a page, each with an ETag. Every tenth is not valid (its views are "many"), as pages in the
wild are: the scraper has to keep it out.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

PER_PAGE = 12

_WHAT = ("Invoice", "Backup report", "Weather", "Sensor alarm", "Newsletter", "Shopping list", "Door bell")
_WHERE_TO = ("to chat", "to a table", "to the printer", "to the archive", "as a summary")
_AUTHORS = ("Ada", "Grace", "Linus", "Margaret", "Dennis")


class Gallery:
    """The site. `published` is how many workflows it shows; raise it and the next scrape finds more."""

    def __init__(self, published: int) -> None:
        self.published = published
        self.requests = 0

    @property
    def valid(self) -> int:
        """How many of them are valid records."""
        return sum(_is_valid(number) for number in range(self.published))

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serves it on a free loopback port and yields the address of its first page."""
        application = web.Application()
        application.router.add_get("/", self._gallery_page)
        application.router.add_get("/workflows/{number:[0-9]{1,6}}", self._workflow_page)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()

    async def _gallery_page(self, request: web.Request) -> web.Response:
        page = request.query.get("page", "1")
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 0
        first = (number - 1) * PER_PAGE
        if number < 1 or first >= self.published:
            raise web.HTTPNotFound
        last = min(first + PER_PAGE, self.published)
        links = [
            f'<li><a class="workflow" href="/workflows/{each}">{_name(each)}</a></li>'
            for each in range(first, last)
        ]
        more = f'<a rel="next" href="/?page={number + 1}">more</a>' if last < self.published else ""
        return self._answer(request, f"<h1>Workflows</h1><ul>{''.join(links)}</ul>{more}")

    async def _workflow_page(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number >= self.published:
            raise web.HTTPNotFound
        return self._answer(request, _workflow(number))

    def _answer(self, request: web.Request, body: str) -> web.Response:
        self.requests += 1
        html = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Gallery</title>{body}</html>'
        etag = hashlib.sha256(html.encode()).hexdigest()[:16]
        response = web.Response(text=html, content_type="text/html")
        response.etag = etag
        if any(known.value == etag for known in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": response.headers["ETag"]})
        return response


def _is_valid(number: int) -> bool:
    return number % 10 != 6


def _name(number: int) -> str:
    return f"{_WHAT[number % 7]} {_WHERE_TO[number % 5]}"


def _workflow(number: int) -> str:
    views = f"{number * 137 % 9973}" if _is_valid(number) else "many"
    return (
        f'<article itemscope><meta itemprop="identifier" content="workflow-{number}">'
        f'<h1 itemprop="name">{_name(number)}</h1><p>by <span itemprop="author">{_AUTHORS[number % 5]}</span>, '
        f'<time itemprop="dateModified" datetime="2026-{number % 12 + 1:02}-{number % 28 + 1:02}">lately</time></p>'
        f'<p itemprop="description">Takes {number % 9 + 2} steps &amp; no code.</p>'
        f'<p><b itemprop="nodes">{number % 9 + 2}</b> nodes, <b itemprop="views">{views}</b> views</p></article>'
    )
