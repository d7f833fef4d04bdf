"""Reads the gallery politely: few requests at a time, a pause between them, a deadline for each.

What may pass (no connection, too slow, 429, 5xx) is tried again with growing pauses, or after the pause that
the server asks for. What did not change (ETag, RFC 9110 section 13.1.2) is not sent again. One page that
fails, or whose record is not valid, is counted and does not keep the others out.
"""

import asyncio
import logging
import random
import sqlite3
import time
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin, urlsplit

import aiohttp

from scraper.pages import GalleryPage, read_gallery_page, read_workflow_page
from scraper.records import Invalid, validate
from scraper.settings import Settings
from scraper.store import Batch, Found, Store

log = logging.getLogger("scraper")

MOST_GALLERY_PAGES = 1000
MOST_BYTES = 2 * 1024 * 1024
LONGEST_PAUSE = 60.0


class Unreadable(Exception):
    """A page could not be read, also not by trying again."""


@dataclass(kw_only=True)
class Scrape:
    """What one scrape did. `problem` is None if it came to the gallery's end."""

    started_at: float
    pages: int = 0
    stored: int = 0
    unchanged: int = 0
    rejected: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    problem: str | None = None


@dataclass(frozen=True)
class _Page:
    url: str
    html: str | None
    """None: not modified."""
    etag: str | None


@dataclass
class Crawler:
    """Scrapes again and again. `last` is the last scrape that ended."""

    settings: Settings
    store: Store
    session: aiohttp.ClientSession
    last: Scrape | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _next_start: float = 0.0

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.settings.concurrency)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self.last = await self.scrape()
            log.info("scraped: %s", self.last)
            await asyncio.sleep(self.settings.every)

    async def scrape(self) -> Scrape:
        """Reads the whole gallery once. What went wrong is in the result, never raised."""
        scrape = Scrape(started_at=time.time())
        begun = time.monotonic()
        try:
            await self._read_gallery(scrape)
        except Unreadable as error:
            scrape.problem = str(error)
        except sqlite3.Error as error:
            scrape.problem = f"the database refused: {error}"
        scrape.seconds = round(time.monotonic() - begun, 3)
        return scrape

    async def _read_gallery(self, scrape: Scrape) -> None:
        etags = await self.store.etags()
        following: str | None = self.settings.gallery
        seen: set[str] = set()
        while following and following not in seen and len(seen) < MOST_GALLERY_PAGES:
            seen.add(following)
            page = await self._read(following)
            links = read_gallery_page(page.html or "")
            scrape.pages += 1
            await self._read_workflows(page.url, links, etags, scrape)
            following = self._own(page.url, links.next) if links.next else None

    async def _read_workflows(
        self, base: str, links: GalleryPage, etags: dict[str, str], scrape: Scrape
    ) -> None:
        batch = Batch()

        async def read(url: str) -> None:
            try:
                page = await self._read(url, etags.get(url))
                if page.html is None:
                    batch.unchanged.append(url)
                else:
                    workflow = validate(read_workflow_page(page.html))
                    batch.found.append(Found(workflow=workflow, url=url, etag=page.etag))
            except Unreadable as error:
                scrape.unreadable += 1
                log.warning("unreadable: %s", error)
            except Invalid as error:
                scrape.rejected += 1
                log.warning("kept out: %s: %s", url, error)

        async with asyncio.TaskGroup() as tasks:
            for url in {url for link in links.workflows if (url := self._own(base, link))}:
                tasks.create_task(read(url))
        await self.store.save(batch)
        scrape.stored += len(batch.found)
        scrape.unchanged += len(batch.unchanged)

    def _own(self, base: str, link: str) -> str | None:
        """The absolute address, or None for one that leads away from the gallery's origin."""
        try:
            url = urldefrag(urljoin(base, link)).url
            there, here = urlsplit(url), urlsplit(self.settings.gallery)
        except ValueError:
            return None
        return url if (there.scheme, there.netloc) == (here.scheme, here.netloc) else None

    async def _read(self, url: str, etag: str | None = None) -> _Page:
        remaining, pause = self.settings.retries, 0.5
        while True:
            try:
                async with self._places:
                    await self._pace()
                    return await self._request(url, etag)
            except _Passing as error:
                if not remaining:
                    raise Unreadable(f"{url}: {error}") from error
                # Half of the pause is left to chance, so that many scrapers do not come back together.
                own = pause * random.uniform(0.5, 1.0)  # noqa: S311
                await asyncio.sleep(min(own if error.after is None else error.after, LONGEST_PAUSE))
            remaining, pause = remaining - 1, pause * 2

    async def _request(self, url: str, etag: str | None) -> _Page:
        headers = {"If-None-Match": etag} if etag else {}
        try:
            async with self.session.get(url, headers=headers) as response:
                if response.status == 304 and etag:
                    return _Page(url, None, etag)
                if response.status in (408, 429) or response.status >= 500:
                    raise _Passing(
                        f"status {response.status}", after=_seconds(response.headers.get("Retry-After"))
                    )
                if response.status != 200 or self._own(url, str(response.url)) is None:
                    raise Unreadable(f"{url}: status {response.status} from {response.url}")
                return _Page(str(response.url), await _read_text(response), response.headers.get("ETag"))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Passing(str(error) or type(error).__name__) from error

    async def _pace(self) -> None:
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next_start - time.monotonic()))
            self._next_start = time.monotonic() + self.settings.delay


class _Passing(Exception):
    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _seconds(header: str | None) -> float | None:
    """Retry-After as seconds; its other form, a date, is answered with our own pauses."""
    return float(header) if header and header.isascii() and header.isdigit() else None


async def _read_text(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for piece in response.content.iter_chunked(64 * 1024):
        body += piece
        if len(body) > MOST_BYTES:
            raise Unreadable(f"{response.url}: more than {MOST_BYTES} bytes")
    try:
        return body.decode(response.charset or "utf-8", errors="replace")
    except LookupError:
        return body.decode("utf-8", errors="replace")
