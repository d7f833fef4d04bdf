"""R-SD-6: a real agent under a watchdog. The test is the systemd: it has the socket, and ends what is silent."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.world import Home, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(600)]

EVERY = 0.25
"""Seconds between two signs of life, of which systemd would wait for twice as long."""
SILENCE = 4.0
"""So long nothing must come from one that is stuck; on a busy machine a living one is late by less."""

MAIN = """
import os, sys
os.environ["WATCHDOG_PID"] = str(os.getpid())
from agent.__main__ import main
sys.exit(main())
"""
"""As systemd starts it."""

BLOCKED = """
import time
from agent.core import triggers
really = triggers.decide

def decide(said, services):
    if said.ref == "refs/heads/boom":
        time.sleep(3600)
    return really(said, services)

triggers.decide = decide
"""
IMPATIENT = """
from agent.core import patience
patience.MARGIN = patience.FILES = 5.0
"""
"""What is stuck is found out soon."""

DEAD = """
from agent.services.monitor import Monitor

async def run(self):
    await self._beside()

Monitor.run = run
"""
STUCK = """
import asyncio
from agent.adapters.builder import ShellBuilder
patience.commands = lambda deploy: 3.0

async def build(self, *arguments, **options):
    await asyncio.Event().wait()

ShellBuilder.build = build
"""


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[tuple[float, str]] = []
        """What came, and when."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while message := self._socket.recv(4096):
                self.messages.append((time.monotonic(), message.decode()))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join(10)
        self._socket.close()

    def start(self, home: Home, *defects: str, **more: str) -> None:
        """Starts an agent, as systemd would, and perhaps a defective one."""
        home.start(
            entry=("-c", "".join(defects) + MAIN),
            more={"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(EVERY * 2e6))} | more,
        )

    def said(self) -> list[str]:
        """All but the signs of life."""
        return [message for _, message in self.messages if message != "WATCHDOG=1"]

    def signs(self, seconds: float) -> int:
        """How many signs of life come within this time."""
        began = time.monotonic()
        time.sleep(seconds)
        return len([at for at, message in self.messages if at > began and message == "WATCHDOG=1"])

    def wait_for_silence(self) -> None:
        """Until there has been no sign of life for so long as a living one never needs."""
        wait_for("silence", lambda: self.signs(SILENCE) == 0, 90)


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    made = Systemd(tmp_path_factory.mktemp("run") / "notify")
    yield made
    made.close()


def test_it_is_alive_at_rest_and_during_a_long_build_and_says_what_goes_on(
    make_home: Callable[..., Home], systemd: Systemd
) -> None:
    """R-SD-5, R-SD-6: first of all it says that it is ready."""
    home = make_home()
    home.settings["services"]["app"]["deploy"]["build"] = {"commands": ["sleep 4"]}
    home.save()
    systemd.start(home)
    wait_for("a sign of life", lambda: systemd.messages[2:])
    assert systemd.messages[0][1] == "READY=1\nSTATUS=1 service"
    assert systemd.signs(3) >= 4
    identity = home.push("one")
    wait_for("the build", lambda: home.deployment(identity)["state"] == "building")
    assert systemd.signs(3) >= 4
    assert home.ended(identity)["state"] == "succeeded"
    wait_for("rest", lambda: systemd.said()[-1] == "STATUS=1 service")
    doing = [text.partition("app: ")[2] for text in systemd.said() if "app: " in text]
    assert doing == [
        "recovering", "fetching", "building", "backing_up", "switching", "verifying", "tidying up",
    ]  # fmt: skip
    assert home.stop() == 0
    assert systemd.said()[-1] == "STOPPING=1"
    assert "stuck" not in home.log.read_text()


def test_a_loop_that_is_blocked_sends_nothing_and_the_next_agent_goes_on(
    make_home: Callable[..., Home], systemd: Systemd
) -> None:
    """F20, R-SD-6: systemd's SIGABRT leaves in the log where it was; the service never stopped."""
    home = make_home()
    systemd.start(home, BLOCKED)
    assert home.deploy("one")["state"] == "succeeded"
    before = home.service()
    assert systemd.signs(3) >= 4
    body = home.push_body("a" * 40).replace(b"refs/heads/main", b"refs/heads/boom")

    def deliver() -> None:
        with suppress(OSError):
            home.deliver("a" * 40, body=body)

    threading.Thread(target=deliver, daemon=True).start()
    systemd.wait_for_silence()
    assert home.process is not None
    os.kill(home.process.pid, signal.SIGABRT)
    assert home.died() == -signal.SIGABRT
    log = home.log.read_text()
    assert "Fatal Python error: Aborted" in log
    assert "in decide" in log
    systemd.start(home)
    assert systemd.signs(3) >= 4
    assert home.service() == before
    assert home.deploy("two")["state"] == "succeeded"


def test_a_monitor_that_died_is_missed(make_home: Callable[..., Home], systemd: Systemd) -> None:
    """R-SD-6: nobody would be told any more that a service is ill. It says once who it is."""
    home = make_home()
    systemd.start(home, IMPATIENT, DEAD)
    wait_for("the log", lambda: "monitor is stuck" in home.log.read_text())
    systemd.wait_for_silence()
    assert home.log.read_text().count("monitor is stuck") == 1
    assert home.get("/health").status in (200, 503), "everything else works"


def test_a_step_that_is_stuck_is_told_and_ended(make_home: Callable[..., Home], systemd: Systemd) -> None:
    """R-SD-6: the next agent takes the deployment up again."""
    home = make_home()
    systemd.start(home, IMPATIENT, STUCK)
    identity = home.push("one")
    wait_for("the log", lambda: "lane app is stuck while building" in home.log.read_text())
    systemd.wait_for_silence()
    assert home.process is not None
    os.kill(home.process.pid, signal.SIGABRT)
    home.died()
    systemd.start(home)
    assert home.ended(identity)["state"] == "succeeded"
    assert systemd.signs(3) >= 4


def test_another_process_that_is_watched_is_none_of_its_business(
    make_home: Callable[..., Home], systemd: Systemd
) -> None:
    """R-SD-6: WATCHDOG_PID of a program that started it."""
    home = make_home()
    home.start(
        more={"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}
    )
    assert systemd.signs(3) == 0
    assert systemd.said()[0].startswith("READY=1")
