"""`homeport demo` as a person starts it: a process, its lines, its exit status, and what is left of it: nothing."""

import asyncio
import io
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

import aiohttp
import pytest
from aiohttp import web

from agent.cli.demo import github
from agent.cli.demo.failure import DemoFailed
from agent.cli.demo.repository import Edit, Push, Repository
from agent.cli.demo.stage import free_port
from agent.cli.demo.telling import Telling
from agent.cli.demo.watch import Watch
from agent.core import github as intake
from agent.core import payload as reading

ACTS = (
    "first deployment",
    "a good push goes live",
    "a broken push is rolled back",
    "a redelivery changes nothing",
    "restore drill",
)
PLANTED = """
import sys
from agent.cli.demo import acts
acts.BROKEN = (acts.Edit("README.md", "# scraper", "# a scraper"),)  # not broken at all: act 3 must notice
from agent.cli.main import run
sys.exit(run(["demo", "--once"]))
"""


class Demo:
    """The process and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""

    async def until(self, words: str, seconds: float = 90) -> None:
        """Reads on until these words were printed."""
        assert self.process.stdout
        async with asyncio.timeout(seconds):
            while words not in self.text:
                line = await self.process.stdout.readline()
                assert line, f"it ended without {words!r}:\n{self.text}"
                self.text += line.decode()

    async def ended(self, seconds: float = 90) -> int:
        """Reads to its end; the exit status."""
        assert self.process.stdout
        async with asyncio.timeout(seconds):
            self.text += (await self.process.stdout.read()).decode()
            return await self.process.wait()

    @property
    def root(self) -> Path:
        """The demo's directory, as it says."""
        found = re.search(r"everything in (\S+)", self.text)
        assert found, self.text
        return Path(found[1])

    def left_over(self) -> list[str]:
        """The processes that have to do with this demo, and its directory if it stands."""
        name = self.root.name.encode()
        found = [str(self.root)] if self.root.exists() else []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                found += [f"{entry.name}: {line!r}" for line in _lines(entry) if name in line]
        return found


def _lines(process: Path) -> list[bytes]:
    """What names the directories of a process."""
    try:
        text = [(process / file).read_bytes() for file in ("cmdline", "environ")]
        return [*text, os.fsencode((process / "cwd").readlink())]
    except OSError:
        return []


@asynccontextmanager
async def a_demo(*arguments: str) -> AsyncIterator[Demo]:
    """The running demo; asked to end, if it has not by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield Demo(process)
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 60)


@pytest.mark.outside
@pytest.mark.timeout(180)
async def test_five_acts_end_as_they_must_and_nothing_is_left() -> None:
    async with a_demo("-m", "agent", "demo", "--once") as demo:
        status = await demo.ended(150)
        assert status == 0, demo.text
        for number, title in enumerate(ACTS, 1):
            assert f"Act {number} of 5: {title}" in demo.text
        assert len(re.findall(r"^  ok, \d+\.\d s$", demo.text, re.MULTILINE)) == 5
        assert len(re.findall(r"the service was away for \d+\.\d\d s", demo.text)) == 2
        assert "answered 202 in" in demo.text
        assert "4 duplicates" in demo.text
        assert "All five acts ended as they must" in demo.text
        assert "\x1b" not in demo.text  # no colour where no terminal is
        assert demo.left_over() == []


@pytest.mark.outside
@pytest.mark.timeout(180)
async def test_it_leaves_the_dashboard_running_until_it_is_asked_to_end() -> None:
    async with a_demo("-m", "agent", "demo") as demo:
        await demo.until("Ctrl-C ends it", 150)
        found = re.search(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)", demo.text)
        assert found, demo.text
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address without a name
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            async with browser.post(f"{found[1]}/api/v1/session", json={"token": found[2]}) as session:
                assert session.status == 200
            async with browser.get(f"{found[1]}/") as page:
                assert page.status == 200
                text = await page.text()
        assert "scraper" in text
        assert "rolled_back" in text or "rolled back" in text
        demo.process.send_signal(signal.SIGTERM)
        assert await demo.ended() == 0, demo.text
        assert demo.left_over() == []


@pytest.mark.outside
@pytest.mark.timeout(180)
async def test_interrupted_in_the_middle_it_ends_in_order_and_says_that_it_did_not_finish() -> None:
    async with a_demo("-m", "agent", "demo", "--once") as demo:
        await demo.until("Act 2 of 5")
        demo.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.05)
        demo.process.send_signal(signal.SIGINT)  # an impatient person
        assert await demo.ended() == 1, demo.text
        assert "All five acts" not in demo.text
        assert demo.left_over() == []


@pytest.mark.outside
@pytest.mark.timeout(180)
async def test_an_act_that_does_not_end_as_it_must_makes_the_demo_fail() -> None:
    async with a_demo("-c", PLANTED) as demo:
        assert await demo.ended(150) == 1, demo.text
        assert "NOT as it must: the deployment ended succeeded instead of rolled_back" in demo.text
        assert "Act 4" not in demo.text
        assert demo.left_over() == []


@pytest.mark.outside
async def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with a_demo("-m", "agent", "demo", "--once", "--port", str(taken.getsockname()[1])) as demo:
            assert await demo.ended() == 75, demo.text
            assert "is taken" in demo.text


# --- its parts


async def test_a_push_is_really_pushed_and_its_delivery_is_one_that_the_intake_takes(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    first = await repository.create()
    second = await repository.change("More", Edit("README.md", "# scraper", "# a scraper"))
    assert first.before == "0" * 40
    assert (second.before, second.modified) == (first.after, ("README.md",))
    assert shutil.which("git")
    assert await _git(repository.bare, "rev-parse", "refs/heads/main") == second.after
    files = (await _git(repository.bare, "ls-tree", "-r", "--name-only", "main")).splitlines()
    assert "scraper/__main__.py" in files
    assert not [name for name in files if "__pycache__" in name or name.startswith("data/")]

    secret = b"It's a Secret to Everybody"
    signed = github.sign(second, secret)
    signature = signed.headers["X-Hub-Signature-256"].encode()
    assert intake.verify(signed.body, [signature], [secret]) == 0
    assert intake.is_json([signed.headers["Content-Type"]])
    payload = reading.read("push", signed.headers["X-GitHub-Delivery"], signed.body)
    assert (payload.revision, payload.ref) == (second.after, "refs/heads/main")
    again = signed.under_new_headers()
    assert again.body == signed.body
    assert again.headers["X-GitHub-Delivery"] != signed.headers["X-GitHub-Delivery"]


async def test_an_edit_that_does_not_fit_the_example_is_told(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    await repository.create()
    with pytest.raises(DemoFailed, match=r"README\.md"):
        await repository.change("More", Edit("README.md", "not there", ""))


async def test_the_persons_own_git_configuration_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[commit]\n\tgpgsign = true\n[core]\n\thooksPath = /nowhere\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    root = tmp_path / "demo"
    root.mkdir()
    push: Push = await Repository(root).create()
    assert await _git(root / "scraper.git", "log", "-1", "--format=%H %an") == f"{push.after} Demo"
    assert not (tmp_path / "elsewhere").exists()


async def test_the_watch_measures_how_long_the_service_was_away() -> None:
    port = free_port()
    watch = Watch(f"http://127.0.0.1:{port}")
    watching = asyncio.create_task(watch.run())
    try:
        async with _serving(port):
            await _until(lambda: watch.seen().answered > 0)
            watch.begin()
            await asyncio.sleep(0.1)
            answered, left = watch.seen().answered, time.monotonic()
            assert not watch.seen().missed
            assert str(watch.seen()).startswith("never away")
            await _until(lambda: watch.seen().answered > answered)  # what is missed was asked after `left`
        await _until(lambda: watch.seen().missed >= 2)
        await asyncio.sleep(0.3)
        async with _serving(port):
            answered = watch.seen().answered
            await _until(lambda: watch.seen().answered > answered)
            away = time.monotonic() - left
        assert 0.3 <= watch.seen().away <= away
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _serving(port: int) -> AsyncIterator[None]:
    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy"})

    application = web.Application()
    application.router.add_get("/health", health)
    runner = web.AppRunner(application, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


def test_a_free_port_is_never_one_that_an_outgoing_connection_could_take() -> None:
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [free_port() for _ in range(20)]
    assert not [port for port in ports if lowest <= port <= highest]
    assert free_port(besides=ports[0]) != ports[0]


def test_on_a_terminal_it_speaks_in_colour_and_elsewhere_in_plain_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def told(stream: TextIO) -> None:
        telling = Telling(stream, time.monotonic)
        with telling.act(1, "first deployment"):
            telling.waiting("building ...")
            telling.line("  [bold] is no markup, http://127.0.0.1:1/#token=x")

    plain = io.StringIO()
    told(plain)
    lines = plain.getvalue().splitlines()
    assert lines[:3] == [
        "",
        "Act 1 of 5: first deployment",
        "  [bold] is no markup, http://127.0.0.1:1/#token=x",
    ]
    assert re.fullmatch(r"  ok, \d+\.\d s", lines[3])
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as terminal:
        told(terminal)
        seen = ""
        while not re.search(r"  ok, \d+\.\d s", seen):  # the kernel hands it over piece by piece
            seen += screen.read(65536).decode()
    assert "\x1b[1m" in seen
    assert "[bold] is no markup, http://127.0.0.1:1/#token=x" in seen


async def _git(directory: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("git", "--git-dir", str(directory), *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(directory)},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()
