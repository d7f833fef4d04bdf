"""The example scraper: its program as a real process, its parts against real HTTP and real SQLite."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import string
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from scraper import crawl, pages, records, settings, store

from agent.adapters.probes import probes_of
from agent.cli.demo.gallery import Gallery
from agent.core import configuration
from agent.core.settings import HttpProbe
from agent.system import configfile
from agent.system.clock import SystemClock
from tests.contracts.probes import a_launch, around

SCRAPER = Path(__file__).parents[2] / "examples" / "scraper"

FIELDS = {
    "identifier": "workflow-1",
    "name": "Invoice to chat",
    "author": "Ada",
    "nodes": "4",
    "views": "137",
    "dateModified": "2026-11-22",
    "description": "Takes 4 steps & no code.",
}


@dataclass
class Process:
    """The running program and where it answers."""

    handle: asyncio.subprocess.Process
    url: str
    data: Path

    async def ask(self, path: str = "/health") -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, await response.json()

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.handle.send_signal(number)
        return await asyncio.wait_for(self.handle.wait(), 10)


@contextlib.asynccontextmanager
async def a_process(gallery: str, data: Path, **environment: str) -> AsyncIterator[Process]:
    """`python -m scraper` on a free port; it is gone afterwards."""
    handle = await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", "-m", "scraper"),
        cwd=SCRAPER,
        env={
            "PATH": os.environ["PATH"],
            "SCRAPER_GALLERY": gallery,
            "SCRAPER_PORT": "0",
            "SCRAPER_DATA": str(data),
            "SCRAPER_DELAY": "0",
            "SCRAPER_EVERY": "0.2",
            **environment,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    assert handle.stdout
    try:
        line = (await asyncio.wait_for(handle.stdout.readline(), 20)).decode()
        assert "serving on" in line, line
        port = int(line.rsplit(",", 1)[1].strip(" )]\n"))
        yield Process(handle, f"http://127.0.0.1:{port}", data)
    finally:
        if handle.returncode is None:
            handle.kill()
        await handle.communicate()


@contextlib.asynccontextmanager
async def a_site(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A real server whose every page is `answer`."""
    runner = web.AppRunner(_application(answer), shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def _application(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    return application


@contextlib.asynccontextmanager
async def a_crawler(gallery: str, data: Path, **different: Any) -> AsyncIterator[Any]:
    """The crawler in this process, over a real store."""
    chosen = settings.read_settings(
        {"SCRAPER_GALLERY": gallery, "SCRAPER_DELAY": "0", "SCRAPER_RETRIES": "1"}
    )
    chosen = replace(chosen, **different)
    timeout = aiohttp.ClientTimeout(total=chosen.deadline)
    async with store.Store(data) as opened, aiohttp.ClientSession(timeout=timeout) as session:
        yield crawl.Crawler(chosen, opened, session)


async def until(question: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Waits for a yes."""
    limit = time.monotonic() + seconds
    while not await question():
        assert time.monotonic() < limit, "it took too long"
        await asyncio.sleep(0.02)


def rows(
    data: Path, statement: str = "select id, first_seen_at, scraped_at from workflows order by id"
) -> Any:
    """What the database holds, read by another connection."""
    with contextlib.closing(sqlite3.connect(data / "scraper.db")) as connection:
        return connection.execute(statement).fetchall()


def a_page(**different: str) -> web.Response:
    """A workflow page."""
    fields = "".join(f'<p itemprop="{name}">{value}</p>' for name, value in (FIELDS | different).items())
    return web.Response(text=fields, content_type="text/html")


def links(*targets: str, following: str = "") -> web.Response:
    """A gallery page."""
    text = "".join(f'<a class="workflow" href="{target}">x</a>' for target in targets)
    return web.Response(text=text + (f'<a rel="next" href="{following}">'), content_type="text/html")


# --- the program


async def test_it_scrapes_the_gallery_and_serves_the_newest_records(tmp_path: Path) -> None:
    gallery = Gallery(published=30)
    async with (
        gallery.serve() as url,
        a_process(url, tmp_path / "data", HOMEPORT_REVISION="a" * 40) as process,
    ):

        async def scraped() -> bool:
            return bool((await process.ask())[1]["last_scrape"])

        await until(scraped)
        status, health = await process.ask()
        assert (status, health["status"], health["version"]) == (200, "healthy", "1.0.0")
        assert health["revision"] == "a" * 40
        assert health["records"] == gallery.valid == 27
        assert 0 <= health["age_seconds"] < 10
        assert health["last_scrape"]["rejected"] == 3
        assert health["last_scrape"]["pages"] == 3
        status, newest = await process.ask("/?limit=5")
        assert status == 200
        assert len(newest) == 5
        assert [each["modified"] for each in newest] == sorted(
            (each["modified"] for each in newest), reverse=True
        )
        assert newest[0]["description"].endswith("steps & no code.")
        assert (await process.ask("/?limit=0"))[0] == 400
        assert (await process.ask("/?limit=99999999999999999999"))[0] == 400


async def test_the_probes_of_its_readme_find_it_well_as_soon_as_it_has_scraped(tmp_path: Path) -> None:
    """Freshness is read out of the database while the scraper writes it."""
    readme = (SCRAPER / "README.md").read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    http, fresh = (
        configuration.read(configfile.parse(readme.encode()).value).services["scraper"].health.probes
    )
    assert isinstance(http, HttpProbe)
    data = tmp_path / "shared" / "data"
    async with Gallery(published=30).serve() as url, a_process(url, data) as process:
        here = msgspec.structs.replace(http, url=f"{process.url}/health")
        (answers,), (_, age) = probes_of([here, fresh], around(tmp_path, clock=SystemClock()))
        launch = a_launch(SCRAPER)
        assert (await answers.ask(launch)).healthy

        async def is_fresh() -> bool:
            return (await age.ask(launch)).healthy

        await until(is_fresh)


async def test_it_is_healthy_as_soon_as_it_serves_also_while_the_gallery_is_away(tmp_path: Path) -> None:
    began = time.monotonic()
    async with a_process("http://127.0.0.1:1/", tmp_path) as process:
        status, health = await process.ask()
        assert time.monotonic() - began < 9  # 0.1 s on an idle machine0  # 0.3 s on an idle machine
        assert (status, health["status"]) == (200, "healthy")
        assert (health["records"], health["age_seconds"]) == (0, None)


async def test_sigterm_ends_it_at_once_also_while_the_gallery_hangs(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(60)
        return links()

    async with a_site(hang) as url, a_process(url, tmp_path) as process:
        await asyncio.wait_for(asked.wait(), 10)
        began = time.monotonic()
        assert await process.end() == 0
        assert time.monotonic() - began < 9  # 0.1 s on an idle machine
        assert not (tmp_path / "scraper.db-wal").exists()


async def test_killed_in_the_middle_it_goes_on_with_what_it_had(tmp_path: Path) -> None:
    gallery = Gallery(published=36)
    async with gallery.serve() as url:
        async with a_process(url, tmp_path, SCRAPER_DELAY="0.01") as process:

            async def some() -> bool:
                return bool((await process.ask())[1]["records"] >= 1)

            await until(some)
            await process.end(signal.SIGKILL)
        before = {row[0]: row[1] for row in rows(tmp_path)}
        assert before
        async with a_process(url, tmp_path) as process:

            async def complete() -> bool:
                return bool((await process.ask())[1]["records"] == gallery.valid)

            await until(complete)
        after = {row[0]: row[1] for row in rows(tmp_path)}
        assert {name: after[name] for name in before} == before
        assert rows(tmp_path, "pragma integrity_check") == [("ok",)]


async def test_health_is_503_while_the_database_cannot_be_read(tmp_path: Path) -> None:
    async with a_process("http://127.0.0.1:1/", tmp_path) as process:
        with contextlib.closing(sqlite3.connect(tmp_path / "scraper.db")) as connection:
            connection.execute("drop table workflows")
        status, health = await process.ask()
        assert (status, health["status"]) == (503, "unhealthy")
        assert "no such table" in health["problem"]


async def test_a_write_that_failed_is_told_until_one_succeeds(tmp_path: Path) -> None:
    async with Gallery(published=3).serve() as url, a_process(url, tmp_path) as process:

        async def status_is(wanted: int) -> bool:
            return (await process.ask())[0] == wanted

        with contextlib.closing(sqlite3.connect(tmp_path / "scraper.db", isolation_level=None)) as connection:
            connection.execute(
                "create trigger refuse before update on workflows begin select raise(abort, 'full'); end"
            )
            await until(lambda: status_is(503))
            assert (await process.ask())[1]["problem"] == "full"
            connection.execute("drop trigger refuse")
        await until(lambda: status_is(200))


async def test_init_db_can_be_run_twice_and_keeps_what_is_there(tmp_path: Path) -> None:
    async def init() -> str:
        handle = await asyncio.create_subprocess_exec(
            *(sys.executable, "-B", "-m", "scraper", "init-db"),
            cwd=SCRAPER,
            env={"PATH": os.environ["PATH"], "SCRAPER_DATA": str(tmp_path / "data")},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(handle.communicate(), 30)
        assert handle.returncode == 0
        return output.decode()

    assert "holds 0 records" in await init()
    async with Gallery(published=3).serve() as url, a_crawler(url, tmp_path / "data") as crawler:
        await crawler.scrape()
    assert "holds 3 records" in await init()


async def test_a_wrong_environment_is_told_completely(tmp_path: Path) -> None:
    handle = await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", "-m", "scraper"),
        cwd=SCRAPER,
        env={"PATH": os.environ["PATH"], "SCRAPER_PORT": "70000", "SCRAPER_EVERY": "soon"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(handle.communicate(), 30)
    assert handle.returncode == 1
    assert [line.split("=")[0].split()[0] for line in errors.decode().splitlines()] == [
        "SCRAPER_GALLERY",
        "SCRAPER_PORT",
        "SCRAPER_EVERY",
    ]


# --- scraping


async def test_a_second_scrape_changes_nothing_but_the_age(tmp_path: Path) -> None:
    gallery = Gallery(published=20)
    async with gallery.serve() as url, a_crawler(url, tmp_path) as crawler:
        first = await crawler.scrape()
        before = rows(tmp_path)
        second = await crawler.scrape()
        after = rows(tmp_path)
    assert (first.stored, first.unchanged, first.rejected, first.problem) == (18, 0, 2, None)
    assert (second.stored, second.unchanged, second.rejected, second.problem) == (0, 18, 2, None)
    assert [row[:2] for row in after] == [row[:2] for row in before]
    assert all(new[2] > old[2] for new, old in zip(after, before, strict=True))


async def test_a_changed_page_updates_its_record_and_new_pages_are_added(tmp_path: Path) -> None:
    views = {"1": "10"}

    async def answer(request: web.Request) -> web.Response:
        name = request.path.strip("/")
        return a_page(identifier=name, views=views[name]) if name else links(*views)

    async with a_site(answer) as url, a_crawler(url, tmp_path) as crawler:
        await crawler.scrape()
        (before,) = rows(tmp_path)
        views |= {"1": "11", "2": "5"}
        await crawler.scrape()
    assert rows(tmp_path, "select id, views from workflows order by id") == [("1", 11), ("2", 5)]
    assert rows(tmp_path)[0][:2] == before[:2]


async def test_a_page_that_changed_and_changed_back_is_read_each_time(tmp_path: Path) -> None:
    views = "1"

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/":
            return links("/a")
        if any(known.value == views for known in request.if_none_match or ()):
            return web.Response(status=304)
        page = a_page(views=views)
        page.etag = views
        return page

    async with a_site(answer) as url, a_crawler(url, tmp_path) as crawler:
        for views in ("1", "2", "1"):
            assert (await crawler.scrape()).stored == 1
            assert rows(tmp_path, "select views from workflows") == [(int(views),)]
        assert (await crawler.scrape()).unchanged == 1


async def test_a_page_of_the_gallery_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    async with Gallery(published=20).serve() as url, a_crawler(url, tmp_path) as crawler:
        with contextlib.closing(sqlite3.connect(tmp_path / "scraper.db", isolation_level=None)) as connection:
            connection.execute(
                "create trigger refuse before insert on workflows when new.id = 'workflow-15'"
                " begin select raise(abort, 'not this one'); end"
            )
        scrape = await crawler.scrape()
    assert scrape.problem == "the database refused: not this one"
    names = {row[0] for row in rows(tmp_path)}
    assert names == {f"workflow-{number}" for number in range(12) if number % 10 != 6}


async def test_what_may_pass_is_tried_again_and_the_servers_pause_is_kept(tmp_path: Path) -> None:
    times: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/":
            return links("/a")
        times.append(time.monotonic())
        if len(times) == 1:
            return web.Response(status=503, headers={"Retry-After": "1"})
        return a_page()

    async with a_site(answer) as url, a_crawler(url, tmp_path) as crawler:
        scrape = await crawler.scrape()
    assert (scrape.stored, scrape.unreadable) == (1, 0)
    assert times[1] - times[0] >= 1


async def test_one_page_that_stays_broken_does_not_keep_the_others_out(tmp_path: Path) -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        if request.path == "/":
            return links("/good", "/gone", "/broken", "/invalid", "/huge")
        if request.path == "/broken":
            asked += 1
            return web.Response(status=500, headers={"Retry-After": "0"})
        if request.path == "/huge":
            return web.Response(body=b"x" * (crawl.MOST_BYTES + 1))
        if request.path == "/gone":
            raise web.HTTPNotFound
        return a_page(identifier=request.path.strip("/"), nodes="4" if request.path == "/good" else "-1")

    async with a_site(answer) as url, a_crawler(url, tmp_path) as crawler:
        scrape = await crawler.scrape()
    assert (scrape.stored, scrape.unreadable, scrape.rejected, scrape.problem) == (1, 3, 1, None)
    assert asked == 2  # once, and one try more
    assert [row[0] for row in rows(tmp_path)] == ["good"]


async def test_a_request_that_hangs_ends_at_its_deadline(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/":
            return links("/slow", "/good")
        if request.path == "/slow":
            await asyncio.sleep(60)
        return a_page()

    began = time.monotonic()
    async with a_site(answer) as url, a_crawler(url, tmp_path, deadline=0.3, retries=0) as crawler:
        scrape = await crawler.scrape()
    assert (scrape.stored, scrape.unreadable) == (1, 1)
    assert time.monotonic() - began < 10


async def test_an_unreachable_gallery_is_a_problem_of_the_scrape_and_not_an_error(tmp_path: Path) -> None:
    async with a_crawler("http://127.0.0.1:1/", tmp_path, retries=0) as crawler:
        scrape = await crawler.scrape()
    assert "http://127.0.0.1:1/" in scrape.problem


async def test_it_reads_only_the_gallerys_own_origin_and_every_page_once(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        if request.path == "/":
            return links(
                "http://127.0.0.1:1/evil", "//other.example/x", "http://[", "a#top", "/a", following="/"
            )
        return a_page()

    async with a_site(answer) as url, a_crawler(url, tmp_path) as crawler:
        scrape = await crawler.scrape()
    assert asked == ["/", "/a"]
    assert (scrape.stored, scrape.problem) == (1, None)


async def test_a_redirect_to_another_origin_is_not_believed(tmp_path: Path) -> None:
    async def elsewhere(_request: web.Request) -> web.Response:
        return a_page(identifier="foreign")

    async with a_site(elsewhere) as other:

        async def answer(request: web.Request) -> web.Response:
            if request.path == "/":
                return links("/a")
            raise web.HTTPFound(other)

        async with a_site(answer) as url, a_crawler(url, tmp_path) as crawler:
            scrape = await crawler.scrape()
    assert (scrape.stored, scrape.unreadable) == (0, 1)


async def test_it_makes_no_more_requests_at_a_time_than_it_may(tmp_path: Path) -> None:
    now = most = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0.05)
        now -= 1
        name = request.path.strip("/")
        return a_page(identifier=name) if name else links(*"abcdefgh")

    async with a_site(answer) as url, a_crawler(url, tmp_path, concurrency=2) as crawler:
        assert (await crawler.scrape()).stored == 8
    assert most == 2


async def test_it_pauses_between_its_requests(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        name = request.path.strip("/")
        return a_page(identifier=name) if name else links(*"abcdefgh")

    async with a_site(answer) as url, a_crawler(url, tmp_path, concurrency=8, delay=0.1) as crawler:
        scrape = await crawler.scrape()
    assert scrape.stored == 8
    assert scrape.seconds >= 8 * 0.1


# --- records and pages


def test_a_record_is_what_its_page_says() -> None:
    workflow = records.validate(FIELDS)
    assert (workflow.id, workflow.nodes, workflow.views) == ("workflow-1", 4, 137)
    assert workflow.modified == "2026-11-22"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("identifier", "", "identifier is not"),
        ("identifier", "-a", "identifier is not"),
        ("identifier", "a" * 65, "identifier is not"),
        ("identifier", "a\n", ""),
        ("identifier", "A", "identifier is not"),
        ("name", "", "name is missing"),
        ("name", "x" * 201, "name has 201 characters"),
        ("name", "a\x1b[31mb", "name contains control characters"),
        ("author", "  ", "author is missing"),
        ("nodes", "-1", "nodes is not a whole number"),
        ("nodes", "٣", "nodes is not a whole number"),
        ("views", "1e9", "views is not a whole number"),
        ("views", "1" * 10, "views is not a whole number"),
        ("dateModified", "2026-02-30", "dateModified is not in the calendar"),
        ("dateModified", "20261122", "dateModified is not a day"),
        ("description", "x" * 2001, "description has 2001 characters"),
        ("description", "", ""),
    ],
)
def test_each_field_has_its_limits(field: str, value: str, told: str) -> None:
    if not told:
        records.validate(FIELDS | {field: value})
        return
    with pytest.raises(records.Invalid) as caught:
        records.validate(FIELDS | {field: value})
    assert len(caught.value.problems) == 1
    assert told in caught.value.problems[0]


def test_every_problem_of_a_record_is_told_at_once() -> None:
    with pytest.raises(records.Invalid) as caught:
        records.validate({})
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "identifier",
        "nodes",
        "views",
        "dateModified",
        "name",
        "author",
    ]


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(max_size=80)))
def test_any_fields_are_a_valid_record_or_invalid_with_reasons(different: dict[str, str]) -> None:
    try:
        workflow = records.validate(FIELDS | different)
    except records.Invalid as error:
        reasons = error.problems
        workflow = None
    else:
        reasons = []
    assert (workflow is None) == bool(reasons)
    if workflow is None:
        return
    assert 1 <= len(workflow.id) <= 64
    assert 0 <= workflow.nodes < 10**9
    assert all(ord(character) >= 32 for character in workflow.name + workflow.author + workflow.description)


@given(
    identifier=st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=64),
    count=st.integers(0, 10**9 - 1),
    day=st.dates().map(lambda day: day.isoformat()),
    name=st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=200).filter(str.strip),
)
def test_what_is_within_the_limits_is_valid(identifier: str, count: int, day: str, name: str) -> None:
    fields = FIELDS | {"identifier": identifier, "nodes": str(count), "dateModified": day, "name": name}
    workflow = records.validate(fields)
    assert (workflow.id, workflow.nodes, workflow.modified) == (identifier, count, day)
    assert workflow.name == name.strip()


@given(st.text(st.characters() | st.sampled_from('<>"=/&! -'), max_size=300))
def test_no_page_however_broken_raises(html: str) -> None:
    pages.read_gallery_page(html)
    pages.read_workflow_page(html)


@pytest.mark.parametrize(
    ("html", "fields"),
    [
        ('<p itemprop="name">a <b>b</b> c</p> d', {"name": "a b c"}),
        ('<p itemprop="name">a<br>b<img src=x></p>c', {"name": "ab"}),
        ('<meta itemprop="identifier" content="x">y', {"identifier": "x"}),
        ('<time itemprop="dateModified" datetime="2026-01-01">lately</time>', {"dateModified": "2026-01-01"}),
        ('<p itemprop="name">one</p><p itemprop="name">two</p>', {"name": "one"}),
        ('<p itemprop="name">a &amp; b', {"name": "a & b"}),
        ('<p itemprop="name">&lt;script&gt;</p>', {"name": "<script>"}),
    ],
)
def test_fields_are_read_from_the_text_or_the_attribute(html: str, fields: dict[str, str]) -> None:
    assert pages.read_workflow_page(html) == fields
