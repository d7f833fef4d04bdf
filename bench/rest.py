"""What the agent costs when nothing happens, and how long its starts take."""

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from bench.options import Options
from bench.processes import MIB, memory, processor_seconds, proportional, written
from bench.report import Report, Table, goal, middle, show
from tests.world import Home, a_home

NAME = "rest"
SETTLE_SECONDS = 5.0
DAY = 86400
ROOT = Path(__file__).resolve().parent.parent


def run(options: Options) -> Report:
    """One agent with one service and the defaults of a user; then the commands."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, a_home(Path(directory) / "home") as home:
        del home.settings["monitor"]
        home.save()
        ready = [_start(home) for _ in range(options.rounds + 2)]
        found = _watch(home, options.rest)
        helps = [_command(home, "--help") for _ in range(options.rounds + 2)]
        status = [_command(home, "status") for _ in range(options.rounds + 2)]
    bare = [_seconds(lambda: subprocess.run([sys.executable, "-c", ""], check=True)) for _ in range(5)]
    return _report(options, found, middle(ready), middle(helps), middle(status), middle(bare))


def _start(home: Home) -> float:
    """Seconds from the command to the first answer of /health; the agent keeps running."""
    if home.process is not None:
        home.stop()
    begun = time.perf_counter()
    home.start(wait=False)
    while not _answers(home.port):
        assert home.process is not None
        assert home.process.poll() is None, home.log.read_text()[-2000:]
        time.sleep(0.002)
    return time.perf_counter() - begun


def _answers(port: int) -> bool:
    with (
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
        suppress(OSError, http.client.HTTPException),
    ):
        connection.request("GET", "/health")
        return connection.getresponse().status in (200, 503)
    return False


def _watch(home: Home, seconds: float) -> dict[str, float]:
    """With a service that was deployed once; figures of the agent's process alone."""
    assert home.process is not None
    pid = home.process.pid
    fresh = memory(pid)
    assert home.deploy("v1")["state"] == "succeeded"
    time.sleep(SETTLE_SECONDS)
    processor, bytes_before, begun = processor_seconds(pid), written(pid), time.monotonic()
    time.sleep(seconds)
    taken = time.monotonic() - begun
    return {
        "fresh": fresh / MIB,
        "memory": memory(pid) / MIB,
        "proportional": proportional(pid) / MIB,
        "processor": (processor_seconds(pid) - processor) / taken * 100,
        "written": (written(pid) - bytes_before) / taken * DAY / MIB,
    }


def _command(home: Home, *arguments: str) -> float:
    """Seconds of the installed command: as `homeport` in a shell."""
    command = [str(Path(sys.executable).with_name("homeport")), *arguments]
    return _seconds(
        lambda: subprocess.run(
            command, cwd=home.directory, env=home.environment(), stdout=subprocess.DEVNULL, check=True
        )
    )


def _seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _report(
    options: Options,
    found: dict[str, float],
    ready: float | None,
    helps: float | None,
    status: float | None,
    bare: float | None,
) -> Report:
    idle = [
        ("memory just after the start (RSS)", f"{found['fresh']:.0f} MB"),
        ("memory after one deployment (RSS)", f"{found['memory']:.0f} MB"),
        ("the same, shared pages by their share (PSS)", f"{found['proportional']:.0f} MB"),
        (f"processor over {options.rest:.0f} s", f"{found['processor']:.2f} % of a core"),
        ("written to the device, as a day", f"{found['written']:.1f} MB"),
    ]
    starts = [
        ("`homeport --help`", f"{show(_ms(helps))} ms"),
        ("`homeport status`", f"{show(_ms(status))} ms"),
        ("`homeport serve` to its first answer", f"{show(_ms(ready))} ms"),
        ("an empty Python, to compare", f"{show(_ms(bare))} ms"),
    ]
    return Report(
        NAME, "At rest",
        [
            "One service, deployed once and watched with the default settings; the agent's process alone.",
            f"Starts: median of {options.rounds + 2}, files in the page cache.",
        ],
        [Table("Idle", ("", ""), idle), Table("Starts", ("", ""), starts)],
        [
            goal("memory", "≤ 48 MB", found["memory"], "{:.0f} MB", most=48),
            goal("processor", "≤ 0.3 % of a core", found["processor"], "{:.2f} %", most=0.3),
            goal("written a day", "≤ 5 MB", found["written"], "{:.1f} MB", most=5),
            goal("`homeport --help`", "< 100 ms", _ms(helps), "{:.0f} ms", most=100),
            goal("`serve` to ready", "< 1 s", _ms(ready), "{:.0f} ms", most=1000),
        ],
        [
            (
                "What a deployment adds and stays: the library that calls git, 3 MB, read with the first one. Whatever"
                " else a deployment takes is given back to the system when it has ended."
            )
        ],
    )  # fmt: skip


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
