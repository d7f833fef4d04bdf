"""Power cuts of an installed agent whose service is a unit: in each state of a deployment, going back, in a backup.

The disk that holds what agent and service keep is an ext4 of its own. Some cuts are lossy: it then has only what had
reached it. Each instant is a state, waited for, and a moment later that is drawn. After the boot nobody helps.
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.documented import UNIT, Documented
from tests.e2e.pi import Pi

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PI = ("--disk", "256:/var/lib/homeport,/srv", "--docker-arg", "--network=none")
CUTS = int(os.environ.get("PI_CUTS", "10"))
SEED = int(os.environ.get("RANDOM_SEED", "1"))
PATIENCE = 60.0
"""Seconds from the end of the boot."""
DATA = 20_000_000
"""Bytes: so that a backup lasts long enough to be met in it."""


@dataclass(frozen=True)
class Instant:
    """In `state` of a deployment (`act`: a good push, one that proves to be bad, a rollback by hand), or after a push
    was answered, or in a backup by hand; up to `span` seconds later."""

    act: str
    state: str
    span: float


INSTANTS = (
    Instant("good", "fetching", 0.05),
    Instant("good", "backing_up", 0.1),
    Instant("bad", "rolling_back", 0.8),
    Instant("good", "switching", 0.05),
    Instant("good", "building", 0.3),
    Instant("back", "rolling_back", 0.6),
    Instant("bad", "verifying", 0.5),
    Instant("backup", "", 0.2),
    Instant("good", "verifying", 0.8),
    Instant("good", "", 2.0),
)


@dataclass(frozen=True)
class Cut:
    """The place in the run, where, how much later, and whether what was not synced is lost."""

    number: int
    at: Instant
    after: float
    lossy: bool

    @property
    def name(self) -> str:
        """As it is told of."""
        how = "lossy" if self.lossy else "plain"
        return f"{self.number}-{self.at.act}-{self.at.state or 'begun'}-{how}"


def drawn() -> list[Cut]:
    """All of them: each instant in turn, four of ten lossy, and others in each round."""
    chance = random.Random(SEED)
    return [
        Cut(number, at, chance.uniform(0, at.span), (number + number // len(INSTANTS)) % 5 in (1, 2))
        for number in range(CUTS)
        for at in (INSTANTS[number % len(INSTANTS)],)
    ]


class Run:
    """What was asked of the agent so far, and what must therefore be."""

    def __init__(self, app: Documented) -> None:
        self.app = app
        self.asked: list[str] = []
        self.guilty: set[str] = set()
        """Revisions that may be in quarantine."""
        self.good = ""
        """The revision that serves when all has ended."""
        self.before = ""
        """The good one before it."""

    def act(self, cut: Cut) -> str:
        """Begins it; returns the deployment's id, "" for a backup."""
        if cut.at.act == "backup":
            return ""
        if cut.at.act == "back":
            answer = self.app.post("/api/v1/services/app/rollback")
            assert answer.status == 202, answer
            self.guilty.add(self.good)
            self.good = self.before
            identity = answer.document["id"]
        else:
            revision = self.app.commit(cut.name, "good" if cut.at.act == "good" else "late")
            answer = self.app.deliver(revision)
            assert answer.status == 202, answer
            identity = answer.document["deployments"][0]["id"]
            if cut.at.act == "good":
                self.before, self.good = self.good, revision
            else:
                self.guilty.add(revision)
        self.asked.append(identity)
        return str(identity)


@pytest.fixture(scope="module")
def run(pi: Pi, wheelhouse: Path) -> Run:
    """Two versions were live; the service has some data."""
    app = Documented(pi)
    app.settings["services"]["app"] |= {
        "rollback": {"max_per_hour": 1000},
        "deploy": {"shared": ["data"], "build": {"commands": ["sleep 0.4"]}},
    }
    app.install(wheelhouse)
    made = Run(app)
    for version in ("first", "second"):
        ended = app.deploy(version)
        assert ended["state"] == "succeeded", ended
        made.asked.append(ended["id"])
        made.before, made.good = made.good, ended["revision"]
    place = "/srv/app/shared/data/more"
    app.pi.run("sh", "-ec", f"head -c {DATA} /dev/urandom > {place}; chown app {place}; sync -f {place}")
    return made


@contextmanager
def backing_up(app: Documented) -> Iterator[None]:
    """`homeport backup create`, begun and not waited for."""
    command = ["docker", "exec", app.pi.name, "homeport", "backup", "create", "app"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as begun:
        yield
        begun.wait(30)


def pull_the_plug(run: Run, cut: Cut, identity: str) -> None:
    """At the instant. Returns when it has booted."""
    pi = run.app.pi
    if identity:
        if cut.at.state:
            run.app.until(identity, cut.at.state)
        time.sleep(cut.after)
        pi.freeze()
        pi.power_cut(lossy=cut.lossy)
        return
    with backing_up(run.app):
        time.sleep(0.15 + cut.after)  # until the command has asked
        pi.freeze()
        pi.power_cut(lossy=cut.lossy)


@pytest.mark.parametrize("cut", drawn(), ids=lambda cut: cut.name)
def test_after_a_power_cut_it_comes_to_where_it_was_going(run: Run, cut: Cut) -> None:
    """R-PL-1, R-RX-12, R-SD-10, R-RB-10, F1, F3, F5, F6, F10, F12: within 60 s of the boot, and nobody helps."""
    print(f"RANDOM_SEED={SEED}: {cut.name}, {cut.after:.3f} s after it was seen")
    before = set(run.app.starts())
    identity = run.act(cut)
    pull_the_plug(run, cut, identity)
    began = time.monotonic()
    if identity:
        ended = run.app.ended(identity, PATIENCE)
        good = cut.at.act != "bad"
        assert ended["state"] == ("succeeded" if good else "rolled_back"), ended
    run.app.healthy(PATIENCE)
    assert time.monotonic() - began < PATIENCE
    check_what_serves(run)
    check_what_was_kept(run)
    assert before <= set(run.app.starts()), "what the service had committed"


def check_what_serves(run: Run) -> None:
    """`live`, the link, the process and its answer are one release; there is one process; nothing is under way."""
    app = run.app
    status = app.get("/status").document["services"]["app"]
    served = app.service()
    assert served is not None
    assert status["live"]["revision"] == run.good == served["revision"]
    assert status["current"] is None
    assert status["hold"] is None
    link, pid, number = app.pi.run(
        "sh", "-ec", "readlink /srv/app/current; pgrep --uid app; pgrep --uid app --count"
    ).stdout.split()
    assert (link, number) == (f"releases/{status['live']['release']}", "1")
    assert app.shown(UNIT, "MainPID", "ActiveState") == [pid, "active"]
    assert app.pi.run("readlink", f"/proc/{pid}/cwd").stdout.strip() == f"/srv/app/{link}"
    assert int(pid) == served["pid"]


def check_what_was_kept(run: Run) -> None:
    """Each thing that was asked ran once and ended; only a revision with a fault of its own is in quarantine; there are
    no halves of backups, and the newest backup reads back whole."""
    app = run.app
    listed = everything(app, "/api/v1/deployments")
    assert [item["id"] for item in listed] == run.asked[::-1]
    assert {item["state"] for item in listed} <= {"succeeded", "rolled_back"}
    quarantine = app.get("/status").document["services"]["app"]["quarantine"]
    assert {item["revision"] for item in quarantine} <= run.guilty
    backups = everything(app, "/api/v1/backups")
    assert {item["state"] for item in backups} == {"ok"}
    verified = app.post(f"/api/v1/backups/{backups[0]['id']}/verify")
    assert verified.document["state"] == "ok", verified
    assert app.pi.run("find", "/var/lib/homeport", "/srv/app", "-name", "*.partial").stdout == ""
    assert "Traceback" not in app.pi.journal("homeport.service", "--boot")


def everything(app: Documented, path: str) -> list[dict[str, Any]]:
    """All items of a list."""
    page = app.get(f"{path}?limit=200").document
    assert page["next"] is None
    found: list[dict[str, Any]] = page["items"]
    return found


def test_a_deployment_after_power_cuts_is_as_any_other(run: Run) -> None:
    """R-PL-1: nothing was left that stands in its way, and its backup can be restored."""
    ended = run.app.deploy("after-all")
    run.asked.append(ended["id"])
    run.before, run.good = run.good, ended["revision"]
    assert (ended["state"], len(ended["steps"])) == ("succeeded", 6), ended
    assert "can be restored" in run.app.pi.run("homeport", "backup", "drill", "app").stdout
