"""`systemctl stop` and `restart` of the agent in each state of a deployment, and bad pushes, on an installed Pi.

The service is a unit of its own: what happens to the agent is nothing to it. A poller asks it 20 times a second.
"""

import itertools
import time
from pathlib import Path

import pytest

from tests.e2e.documented import UNIT, Documented
from tests.e2e.pi import LIMITED, Pi
from tests.world import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PI = ("--docker-arg", "--network=none")
STATES = ("fetching", "building", "backing_up", "switching", "verifying", "rolling_back")
DATA = 20_000_000
"""Bytes: so that a backup lasts long enough to be met in it."""


@pytest.fixture(scope="module")
def app(pi: Pi, wheelhouse: Path) -> Documented:
    """A first version is live, and the service has some data."""
    made = Documented(pi)
    made.settings["services"]["app"]["deploy"] = {
        "shared": ["data"],
        "build": {"commands": ["sleep $(cat slow || echo 0.3)"]},
    }
    made.install(wheelhouse)
    assert made.deploy("first")["state"] == "succeeded"
    place = "/srv/app/shared/data/more"
    pi.run("sh", "-ec", f"head -c {DATA} /dev/urandom > {place}; chown app {place}")
    return made


@pytest.fixture
def ready(app: Documented) -> Documented:
    """Agent and service are well; systemd counts the agent's starts anew, and the agent the service's rollbacks."""
    app.pi.run("systemctl", "reset-failed", "homeport")
    for word in ("hold", "resume"):  # what is not held goes on counting
        app.pi.run("homeport", word, "app")
    app.healthy()
    return app


def outages(seen: list[str]) -> int:
    """How often in a row of answers something else came than 200."""
    return sum(not good for good, _ in itertools.groupby(seen, lambda said: said == "200"))


def version(app: Documented) -> str:
    """That the service answers with; "" for no answer."""
    answer = app.service()
    return str(answer["version"]) if answer else ""


@pytest.mark.parametrize(
    ("state", "how"),
    [
        *((state, "stop") for state in STATES),
        *((state, "restart") for state in STATES[3:]),
        *(pytest.param(state, "restart", marks=pytest.mark.long) for state in STATES[:3]),
    ],
)
def test_told_to_stop_in_any_state_it_goes_on_and_the_service_never_blinks(
    ready: Documented, state: str, how: str
) -> None:
    """R-SD-7, F18: whoever asks the service sees the restart of a switch and nothing else; there are two of them if
    it goes back."""
    name, before, starts = f"{how}-while-{state}", version(ready), ready.starts()
    bad = state == "rolling_back"
    with ready.watched() as seen:
        identity = ready.push(name, "late" if bad else "good")
        ready.until(identity, state)
        began = time.monotonic()
        ready.pi.run("systemctl", how, "homeport", timeout=180)
        if how == "stop":
            assert time.monotonic() - began < 10
            invocation = ready.invocation()
            time.sleep(0.5)
            assert ready.invocation() == invocation, "nothing happens to the service while there is no agent"
            ready.pi.run("systemctl", "start", "homeport", timeout=180)
        ended = ready.ended(identity)
        ready.healthy()
    assert ended["state"] == ("rolled_back" if bad else "succeeded"), ended
    assert version(ready) == (before if bad else name)
    assert ready.starts() == [*starts, name, *([before] if bad else [])]
    assert outages(seen) <= 1 + bad, seen


# --- its data while it is down


def test_a_backup_of_a_database_that_nobody_has_open_leaves_it_to_its_user(ready: Documented) -> None:
    """R-BK-2: SQLite makes files beside it then. Were they the agent's, the service's own user could not write them: a
    service that is down while it is backed up, before a deployment say, would not come up again in any version."""
    path = "/srv/app/shared/data/idle.db"
    program = f"import sqlite3; c = sqlite3.connect('{path}'); c.executescript(input()); c.close()"
    begin = "PRAGMA journal_mode=wal; CREATE TABLE t (x)"
    ready.pi.run("python3", "-c", program, user="app", given=begin)
    ready.pi.run("homeport", "backup", "create", "app")
    assert ready.pi.run("find", "/srv/app/shared/data", "-name", "idle.db?*").stdout == ""
    ready.pi.run("python3", "-c", program, user="app", given="INSERT INTO t VALUES (1)")


# --- another unit


def test_a_service_that_is_to_be_another_unit_does_not_run_twice(ready: Documented) -> None:
    """Neither by a reload nor by a start of the agent, as long as the unit before runs: that one serves on."""
    other, before = "other.service", ready.invocation()
    app = ready.settings["services"]["app"]
    named = app["runtime"]
    ready.pi.put(f"/etc/systemd/system/{other}", ready.pi.get(f"/etc/systemd/system/{UNIT}"))
    ready.pi.run("systemctl", "daemon-reload")
    app["runtime"] = named | {"unit": other}
    ready.save()
    try:
        done = ready.pi.run("homeport", "reload", check=False)
        assert done.returncode == 78
        assert f"{UNIT}, which the service was before, is active" in done.stdout + done.stderr
        ready.pi.run("systemctl", "restart", "homeport", timeout=180)
        told = f"cannot be started: {UNIT}, which the service was before, is active"
        wait_for("the agent's word", lambda: told in ready.pi.journal("homeport"))
        assert ready.shown(other, "ActiveState") == ["inactive"]
        assert ready.invocation() == before
    finally:
        app["runtime"] = named
        ready.save()
        ready.pi.run("systemctl", "restart", "homeport", timeout=180)
    ready.healthy()
    assert ready.invocation() == before


# --- bad pushes


def test_a_version_that_crashes_again_and_again_is_left(ready: Documented) -> None:
    """F62, R-SD-10, R-RB-1: although systemd starts it again each time; what it said stands in the deployment."""
    before = version(ready)
    ended = ready.deploy("crashes", "crash")
    assert (ended["state"], ended["reason"]) == ("rolled_back", "process-died"), ended
    told = ready.pi.run("homeport", "logs", ended["id"]).stdout
    assert "this version crashes at its start" in told
    assert f"{UNIT}: Failed with result 'exit-code'" in told
    assert version(ready) == before


def test_a_version_that_never_listens_is_left(ready: Documented) -> None:
    """F63, R-RB-1."""
    before = version(ready)
    ended = ready.deploy("never-listens", "silent")
    assert (ended["state"], ended["reason"]) == ("rolled_back", "health-timeout"), ended
    assert "starting never-listens silent" in ready.pi.run("homeport", "logs", ended["id"]).stdout
    assert version(ready) == before


@LIMITED
def test_a_version_that_eats_the_memory_is_left(ready: Documented) -> None:
    """F74, R-MO-6: the unit's MemoryMax= ends it and nobody else; systemd's line about it stands in the deployment."""
    before, pid = version(ready), ready.shown("homeport", "MainPID")
    ended = ready.deploy("eats", "hungry")
    assert (ended["state"], ended["reason"]) == ("rolled_back", "process-died"), ended
    told = ready.pi.run("homeport", "logs", ended["id"]).stdout
    assert "status=9/KILL" in told or "OOM" in told
    assert version(ready) == before
    assert ready.shown("homeport", "MainPID") == pid


def test_two_rollbacks_within_an_hour_hold_the_service(ready: Documented) -> None:
    """F71, R-RB-4: the old version serves; what comes then waits for a person, also after a restart of the agent."""
    before = version(ready)
    for number in (1, 2):
        assert ready.get("/status").document["services"]["app"]["hold"] is None
        assert ready.deploy(f"bad-{number}", "crash")["state"] == "rolled_back"
    ready.pi.run("systemctl", "restart", "homeport")
    held = ready.deliver(ready.commit("mended"))
    assert (held.status, held.document["reason"]) == (200, "held")
    assert version(ready) == before
    ready.pi.run("homeport", "resume", "app")
    wait_for("what was ignored meanwhile", lambda: version(ready) == "mended")


def test_what_is_pushed_while_one_runs_comes_after_it(ready: Documented) -> None:
    """R-RX-25, F48: of several the newest."""
    first = ready.push("runs", slow="1.5")
    ready.until(first, "building")
    waiting = [ready.push(f"waits-{number}", slow="0.1") for number in (1, 2)]
    assert [ready.ended(identity)["state"] for identity in (first, *waiting)] == [
        "succeeded", "superseded", "succeeded",
    ]  # fmt: skip
    assert version(ready) == "waits-2"


def test_a_redelivery_is_answered_with_what_it_made(ready: Documented) -> None:
    """R-RX-13, F46: also of a version that was rolled back."""
    for name, mode, end in (("again", "good", "succeeded"), ("bad-again", "crash", "rolled_back")):
        revision = ready.commit(name, mode)
        first = ready.deliver(revision)
        placed = first.document["deployments"]
        assert ready.ended(placed[0]["id"])["state"] == end
        invocation = ready.invocation()
        again = ready.deliver(revision)
        assert (again.status, again.document["decision"]) == (200, "duplicate")
        assert again.document["deployments"] == placed
        assert ready.get("/api/v1/deployments").document["items"][0]["id"] == placed[0]["id"]
        assert ready.invocation() == invocation
