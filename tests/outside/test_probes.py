"""Probes as their user sees them: the installed command, real services with and without a port, HTTP from outside."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.world import SERVE, Home, wait_for

pytestmark = pytest.mark.outside

POLITE = SERVE.replace("self.send_response(500 if sick else 200)", "self.send_response(200)").replace(
    '{"version": version,', '{"status": "sick" if sick else "healthy", "db": {"rows": 3}, "version": version,'
)
"""A service that says in its body that it is sick, with status 200."""

WORKER = """
import os, pathlib, sqlite3, time
mode = pathlib.Path("mode").read_text().strip()
print("working as", mode, flush=True)
data = sqlite3.connect("data/app.db", isolation_level=None)
data.execute("PRAGMA journal_mode = WAL")
data.execute("PRAGMA synchronous = OFF")  # it is asked how fresh they are, and the tests' disk may be busy
data.execute("CREATE TABLE IF NOT EXISTS work (at)")
if mode == "good":
    pathlib.Path("ready").write_text(os.environ["HOMEPORT_REVISION"])
while True:
    if mode == "good" and not os.path.exists("data/stalled"):
        data.execute("INSERT INTO work VALUES (?)", [time.time()])
    time.sleep(0.05)
"""
"""A service without a port: it makes a file when it is ready, and writes down when it worked."""


def a_worker(make_home: Callable[..., Home], **probe: Any) -> Home:
    """A home whose service is the worker, asked by this probe."""
    health = {"every": "50ms", "timeout": "6s", "successes": 2, "soak": "300ms", "probes": [probe]}
    runtime = {"kind": "process", "command": [sys.executable, "-S", "-E", "worker.py"]}
    home = make_home(runtime=runtime, health=health)
    home.remotes["app"].write("worker.py", WORKER)
    home.save()
    home.start()
    return home


def told(home: Home) -> tuple[str, str]:
    service = home.get("/status").document["services"]["app"]
    return service["health"], service["health_detail"]


def output_of(home: Home, deployment: dict[str, Any]) -> str:
    return " ".join(step["detail"] for step in home.deployment(deployment["id"])["steps"])


def test_a_version_that_answers_200_and_says_that_it_is_sick_is_rolled_back(
    make_home: Callable[..., Home],
) -> None:
    """F66, R-RB-7: the body says error."""
    home = make_home()
    home.remotes["app"].write("serve.py", POLITE)
    health = home.settings["services"]["app"]["health"]
    health |= {"timeout": "2s", "soak": "1s"}
    health["probes"][0] |= {"json": {"status": "healthy", "db.rows": 3}}
    home.save()
    home.start()
    good = home.deploy("one")
    assert good["state"] == "succeeded"
    bad = home.deploy("two", "sick")
    assert (bad["state"], bad["reason"]) == ("rolled_back", "health-timeout")
    assert 'status is "sick" instead of "healthy"' in output_of(home, bad)
    service = home.service()
    assert service is not None
    assert (service["version"], service["status"]) == ("one", "healthy")
    late = home.deploy("three", "late")
    assert (late["state"], late["reason"]) == ("rolled_back", "soak-failed")
    assert home.current() == good["release"]


def test_a_worker_without_a_port_is_asked_by_a_command_in_its_release(make_home: Callable[..., Home]) -> None:
    """R-RB-7: the new process is asked, in the release under trial."""
    home = a_worker(make_home, kind="command", command='test "$(cat ready)" = "$HOMEPORT_REVISION"')
    good = home.deploy("one")
    assert good["state"] == "succeeded", good
    bad = home.deploy("two", "lazy")
    assert (bad["state"], bad["reason"]) == ("rolled_back", "health-timeout")
    assert "exit status 1 instead of 0: cat: ready: No such file" in output_of(home, bad)
    assert home.current() == good["release"]
    wait_for("the monitor", lambda: told(home)[0] == "healthy")
    ready = home.srv / "app" / "current" / "ready"
    ready.rename(ready.with_name("gone"))
    wait_for("the monitor to notice", lambda: told(home)[0] == "unhealthy")
    assert "exit status 1" in told(home)[1]
    assert home.get("/health").status == 503
    ready.with_name("gone").rename(ready)
    wait_for("the monitor to notice", lambda: told(home)[0] == "healthy")


def test_a_command_that_hangs_is_ended_and_its_version_rolled_back(make_home: Callable[..., Home]) -> None:
    """F63 for a worker; and nothing of the probes is left."""
    home = a_worker(make_home, kind="command", command="test -e ready || sleep 600", timeout="2s")
    good = home.deploy("one")
    assert good["state"] == "succeeded", good
    bad = home.deploy("two", "lazy")
    assert (bad["state"], bad["reason"]) == ("rolled_back", "health-timeout")
    assert "not done within 2 s" in output_of(home, bad)
    assert home.stop() == 0
    assert len(home.sessions()) == 1, "the service, and no probe"


def test_a_service_that_lives_and_does_not_work_is_found_by_what_it_wrote_last(
    make_home: Callable[..., Home],
) -> None:
    """Freshness: read out of its database, which it writes meanwhile."""
    home = a_worker(make_home, kind="freshness", sqlite="shared/data/app.db", query="SELECT max(at) FROM work",
                    max_age="2s")  # fmt: skip
    home.settings["services"]["app"]["health"]["soak"] = "3s"
    home.save()
    assert home.stop() == 0
    home.start()
    good = home.deploy("one")
    assert good["state"] == "succeeded", good
    wait_for("the monitor", lambda: told(home)[0] == "healthy")
    stalled = home.srv / "app" / "shared" / "data" / "stalled"
    stalled.touch()
    wait_for("the monitor to notice", lambda: told(home)[0] == "unhealthy")
    assert told(home)[1].startswith("shared/data/app.db: ")
    assert told(home)[1].endswith("ago, more than 2s")
    stalled.unlink()
    wait_for("the monitor to notice", lambda: told(home)[0] == "healthy")
    bad = home.deploy("two", "lazy")
    assert (bad["state"], bad["reason"]) == ("rolled_back", "soak-failed"), (
        "the old one's work counts for a while"
    )
    assert home.current() == good["release"]
    assert sorted(file.name for file in (home.srv / "app" / "shared" / "data").iterdir()) == [
        "app.db", "app.db-shm", "app.db-wal",
    ]  # fmt: skip


def test_a_probe_that_is_only_for_rest_does_not_decide_a_deployment(make_home: Callable[..., Home]) -> None:
    home = a_worker(make_home, kind="command", command="test -e ready", when="live", every="1s")
    deployment = home.deploy("one", "lazy")
    assert deployment["state"] == "succeeded"
    wait_for("the monitor to notice", lambda: told(home)[0] == "unhealthy")
    (home.srv / "app" / "current" / "ready").touch()
    wait_for("the monitor to notice", lambda: told(home)[0] == "healthy")
    began = time.monotonic()
    (home.srv / "app" / "current" / "ready").unlink()
    wait_for("the monitor to notice", lambda: told(home)[0] == "unhealthy")
    assert time.monotonic() - began > 0.2, "a good answer counts for a second"
