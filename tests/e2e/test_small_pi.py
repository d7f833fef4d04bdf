"""The main job's own tests from outside, on an installed Pi that is as small as the smallest: 512 MB, half a core.

`tests.outside.test_main_job` says what is to happen; here it happens to the installed agent and to a unit.
"""

import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.documented import UNIT, Documented
from tests.e2e.pi import LIMITED, Pi
from tests.outside.test_main_job import (
    test_a_broken_push_bounces_back as bounces_back,
)
from tests.outside.test_main_job import (  # noqa: F401 - as above
    test_a_failing_build_touches_nothing,
    test_a_first_push_that_fails_has_nothing_to_go_back_to,
    test_a_push_lands,
    test_a_redelivery_changes_nothing,
    test_before_the_first_deployment_the_agent_is_healthy_and_the_service_none,
    test_the_service_outlives_the_agent,
    test_two_bad_revisions_hold_the_service_until_a_person_resumes,
)
from tests.world import Answer, push_body, signed

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

MEMORY = 512 << 20
PI = ("--memory", str(MEMORY), "--cpus", "0.5", "--docker-arg", "--network=none")

_FORGET = f"""
systemctl stop homeport {UNIT}
systemctl reset-failed homeport {UNIT} || true
rm -rf /var/lib/homeport/* /srv/app/releases /srv/app/current /srv/app/shared/* /srv/app/mirror.git
"""


class SmallHome(Documented):
    """What `tests.world.Home` is to those tests, on the Pi."""

    def __init__(self, pi: Pi) -> None:
        super().__init__(pi)
        self.remotes = {"app": self}
        self.is_installed = False

    def begin_anew(self) -> None:
        """As after the installation: no agent runs, nothing was ever deployed. The repository keeps its past."""
        self.pi.run("sh", "-ec", _FORGET)

    def save(self) -> None:
        """As its owner does: those tests change what is built as well."""
        super().save()
        if self.is_installed:
            self.pi.run("homeport", "install", "--no-start", timeout=240)

    def start(self) -> None:
        """Returns when it answers."""
        self.pi.run("systemctl", "reset-failed", "homeport")
        self.pi.run("systemctl", "start", "homeport", timeout=240)

    def stop(self) -> int:
        """SIGTERM by systemd; the agent's exit status."""
        self.pi.run("systemctl", "stop", "homeport", timeout=240)
        return int(self.shown("homeport", "ExecMainStatus")[0])

    def kill(self) -> None:
        """SIGKILL, and systemd does not start it anew."""
        self.pi.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "homeport")
        self.pi.run("systemctl", "stop", "homeport")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as root types it."""
        return self.pi.run("homeport", *arguments, check=False)

    def deliver(self, revision: str, *, body: bytes | None = None, **headers: str) -> Answer:
        """A signed push delivery, as GitHub sends it."""
        body = self.push_body(revision) if body is None else body
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(body, signed(body) | more)

    def push_body(self, revision: str) -> bytes:
        """What GitHub says of a push."""
        return push_body(revision, "me/app")

    def current(self) -> str:
        """Which release `current` names."""
        return Path(self.pi.run("readlink", "/srv/app/current").stdout.strip()).name


@pytest.fixture(scope="module")
def installed(pi: Pi, wheelhouse: Path) -> SmallHome:
    """With the patience of those tests: a version is given up sooner than by default."""
    made = SmallHome(pi)
    made.settings["monitor"] = {"every": "200ms"}
    made.settings["services"]["app"]["health"] |= {
        "restarts": 0, "every": "50ms", "timeout": "6s", "successes": 2, "soak": "300ms",
    }  # fmt: skip
    made.install(wheelhouse)
    made.is_installed = True
    return made


@pytest.fixture
def make_home(installed: SmallHome) -> Iterator[Callable[[], SmallHome]]:
    """One after the other they are the same Pi."""
    settings: dict[str, Any] = deepcopy(installed.settings)

    def make() -> SmallHome:
        installed.begin_anew()
        return installed

    yield make
    if installed.settings != settings:
        installed.settings = settings
        installed.save()


@pytest.fixture
def home(make_home: Callable[[], SmallHome]) -> SmallHome:
    """A running agent with one service, not deployed yet."""
    made = make_home()
    made.start()
    return made


@pytest.mark.parametrize(("mode", "reason"), [("crash", "process-died"), ("late", "soak-failed")])
def test_a_broken_push_bounces_back(make_home: Callable[..., Any], mode: str, reason: str) -> None:
    """R-RB-1, F62: two of the five kinds; the others wait for a timeout."""
    bounces_back(make_home, mode, reason)


@LIMITED
def test_the_pi_is_as_small_as_that(home: SmallHome) -> None:
    """Else the tests above would show nothing: what bounds the Pi bounds the agent and the service."""
    for unit in ("homeport", UNIT) if home.deploy("one")["state"] == "succeeded" else ():
        (pid,) = home.shown(unit, "MainPID")
        groups = dict(line.split(":")[1:] for line in home.pi.get(f"/proc/{pid}/cgroup").splitlines())
        top = "/".join(groups["memory"].split("/")[:3])
        assert int(home.pi.get(f"/sys/fs/cgroup/memory{top}/memory.limit_in_bytes")) == MEMORY
