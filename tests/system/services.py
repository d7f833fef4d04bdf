"""Small real services for tests of what runs, and the means to be sure that none is left."""

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from agent.adapters.runtimes.process import ProcessRuntime
from agent.core import settings
from agent.core.model import Launch
from agent.system.process import stat_of

REVISION = os.environ.setdefault("TESTS_REVISION", f"{os.getpid():040x}")
"""Of this run of the tests alone, and of the agents that it starts: a daemon that went to `/` belongs to whoever has
its service and revision, so the tests of another worker would end it."""

SLEEPER = "exec sleep 600"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
FAMILY = "sleep 601 & sh -c 'sleep 602 & wait' & echo ready; wait"
LISTENER = """
    import socket, sys, time
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
        print("ready", flush=True)
        time.sleep(600)
"""


def python(code: str, *arguments: str) -> tuple[str, ...]:
    """A command that runs some Python."""
    return (sys.executable, "-S", "-c", textwrap.dedent(code), *arguments)


def shell(code: str) -> tuple[str, ...]:
    """A command that runs some shell."""
    return ("/bin/sh", "-c", code)


def a_launch(tmp_path: Path, release: str = "1-aaaaaaa", **differences: str) -> Launch:
    """A release with an empty directory."""
    directory = tmp_path.resolve() / "releases" / release
    directory.mkdir(parents=True, exist_ok=True)
    values = {"service": "scraper", "release": release, "revision": REVISION, "directory": str(directory)}
    return Launch(**(values | differences))


def a_runtime(
    tmp_path: Path,
    command: tuple[str, ...],
    *,
    stop_timeout: float = 5,
    redact: Callable[[str], str] = str,
    environment: Mapping[str, str] | None = None,
) -> ProcessRuntime:
    """A runtime as an agent makes it at its start: knows nothing but what lies on the disk."""
    options = settings.ProcessRuntime(
        command=command, stop_timeout=settings.Seconds(stop_timeout), environment=dict(environment or {})
    )
    return ProcessRuntime(options, service="scraper", state=tmp_path / "run" / "scraper", redact=redact)


def alive(pid: int) -> bool:
    stat = stat_of(pid)
    return stat is not None and stat.alive


async def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until it is true; fails if that takes too long."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the event is another process's
            await asyncio.sleep(0.01)


def at_work_below(directory: Path) -> list[int]:
    """Every living process that works in this directory or has a file of it open or in its arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid() or not alive(int(entry.name)):
            continue
        try:
            links = [entry / "cwd", *(entry / "fd").iterdir()]
            places = [str(link.readlink()) for link in links]
            places.append((entry / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
        if any(str(directory) in place for place in places):
            found.append(int(entry.name))
    return found


def end_all_below(directory: Path) -> None:
    """Kills what a test left, by its work in the test's own directory."""
    while left := at_work_below(directory):  # one of them may have forked while it was looked for
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
