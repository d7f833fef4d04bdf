"""`python -m scraper` serves and scrapes until SIGTERM; `python -m scraper init-db` makes the database."""

import asyncio
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Coroutine

import aiohttp
from aiohttp import web

from scraper.crawl import Crawler
from scraper.settings import Settings, SettingsError, read_data_directory, read_settings
from scraper.store import Store
from scraper.web import Pages


def main(arguments: list[str]) -> int:
    """The exit status: 0 done, 1 it could not start, 2 wrong usage."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    try:
        if arguments == ["init-db"]:
            asyncio.run(make_database())
        elif not arguments:
            asyncio.run(serve(read_settings(os.environ)))
        else:
            print("usage: python -m scraper [init-db]", file=sys.stderr)
            return 2
    except SettingsError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 1
    except (OSError, sqlite3.Error) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    return 0


async def make_database() -> None:
    """Safe to run twice: what is there stays."""
    async with Store(read_data_directory(os.environ)) as store:
        print(f"{store.path} holds {(await store.summary()).records} records")


async def serve(settings: Settings) -> None:
    """Answers at once, scrapes beside it, and ends cleanly at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    timeout = aiohttp.ClientTimeout(total=settings.deadline)
    headers = {"User-Agent": settings.agent}
    async with (
        Store(settings.data) as store,
        aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
    ):
        crawler = Crawler(settings, store, session)
        runner = web.AppRunner(
            Pages(settings, store, crawler).application(), access_log=None, shutdown_timeout=2
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
            logging.getLogger("scraper").info("serving on %s", runner.addresses)
            await _until(stop, crawler.run())
        finally:
            await runner.cleanup()


async def _until(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Works until it is told to stop. A defect in the work ends it too: whoever runs this starts it again."""
    tasks = asyncio.create_task(work), asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
