"""A disk that answers "input/output error" to a running agent, and is well again later. Needs a C compiler: what fails
is decided between the agent and the C library (`failing.c`), so that it is the real agent with the real SQLite."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.world import Home, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

STATE = "/state/state.db"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`failing.c`, compiled."""
    made = tmp_path_factory.mktemp("shim") / "failing.so"
    source = Path(__file__).with_name("failing.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-nostdlib", "-o", str(made), str(source)], check=True)
    return made


class Failing(Home):
    """A home whose agent's disk fails on demand."""

    shim: Path

    @property
    def _rules(self) -> Path:
        return self.directory / "failing"

    def fail(self, *rules: str) -> None:
        """From now on these do; no rule: the disk is well again."""
        aside = self._rules.with_suffix(".new")
        aside.write_text("".join(f"{rule}\n" for rule in rules))
        aside.replace(self._rules)

    def begin(self) -> None:
        """Starts the agent on this disk."""
        self.start(more={"LD_PRELOAD": str(self.shim), "FAILING": str(self._rules)})

    def status(self) -> str:
        """/health says it, also while nothing can be read."""
        return str(self.get("/health").document["status"])


@pytest.fixture
def home(tmp_path: Path, shim: Path) -> Iterator[Failing]:
    """One good version is live."""
    made = Failing(tmp_path / "home")
    made.shim = shim
    try:
        made.begin()
        assert made.deploy("one")["state"] == "succeeded"
        yield made
    finally:
        made.end()


def _hold_builds(home: Failing) -> Path:
    """Builds wait until this file is there."""
    go_on = home.directory / "go-on"
    home.settings["services"]["app"]["deploy"]["build"] = {
        "commands": [f"until [ -e {go_on} ]; do sleep 0.05; done"]
    }
    home.save()
    assert home.command("reload").returncode == 0
    return go_on


def _lands(home: Failing, revision: str, body: bytes, version: str) -> None:
    """What was refused: its redelivery, unless it was written all the same and found again."""
    answer = home.deliver(revision, body=body)
    assert (answer.status, answer.document["decision"]) in ((202, "deploy"), (200, "duplicate"))
    assert home.ended(answer.document["deployments"][0]["id"])["state"] == "succeeded"
    assert home.service()["version"] == version  # type: ignore[index]


def test_a_state_that_the_disk_does_not_take_is_503_until_it_was_opened_anew(home: Failing) -> None:
    """F27, R-RX-27: a failed sync is never tried again as if nothing had happened; told once, not each time; the same
    agent goes on by itself when the disk is well."""
    for how, version in (("sync", "two"), ("write", "three")):
        _fails_and_goes_on(home, how, version)
    assert len(home.log.read_text().splitlines()) < 100
    assert "Traceback" not in home.log.read_text()


def _fails_and_goes_on(home: Failing, how: str, version: str) -> None:
    before = home.service()
    revision = home.remotes["app"].commit(version)
    body = home.push_body(revision)
    home.fail(f"{how} {STATE}")
    for _ in range(20):
        answer = home.deliver(revision, body=body)
        assert (answer.status, answer.document["code"]) == (503, "store-unavailable")
    assert home.status() == "degraded"
    assert "the state cannot be read or written: disk I/O error" in home.command("status").stdout
    assert home.service() == before, "the very same process"
    home.fail()
    wait_for("the end of the trouble", lambda: home.status() == "healthy")
    _lands(home, revision, body, version)


def test_a_deployment_whose_state_cannot_be_synced_waits_and_goes_on(home: Failing) -> None:
    """F27: nothing is done that is not in the journal."""
    go_on = _hold_builds(home)
    running = home.push("two")
    wait_for("the build", lambda: home.deployment(running)["state"] == "building")
    before = home.service()
    home.fail(f"sync {STATE}")
    go_on.touch()
    wait_for("the trouble", lambda: home.status() == "degraded")
    assert home.service() == before, "the very same process"
    home.fail()
    assert home.ended(running)["state"] == "succeeded"
    assert "Traceback" not in home.log.read_text()


def test_after_a_failed_sync_a_killed_agent_begins_with_what_is_whole(home: Failing) -> None:
    """F27: the write-ahead log is folded into the file before anything is added to it."""
    go_on = _hold_builds(home)
    running = home.push("two")
    wait_for("the build", lambda: home.deployment(running)["state"] == "building")
    home.fail(f"sync {STATE}")
    go_on.touch()
    wait_for("the trouble", lambda: home.status() == "degraded")
    home.kill()
    home.fail()
    home.begin()
    assert home.ended(running)["state"] == "succeeded"
    assert home.status() == "healthy"


def test_a_state_that_cannot_be_read_is_told_and_read_again_later(home: Failing) -> None:
    """F27: also by an agent that cannot start."""
    before = home.service()
    revision = home.remotes["app"].commit("two")
    body = home.push_body(revision)
    home.fail(f"read {STATE}")
    assert home.deliver(revision, body=body).status in (202, 503), "what is written may need no reading"
    wait_for("the trouble", lambda: home.status() == "degraded")
    assert home.service() == before, "the very same process"
    home.kill()
    refused = _start_that_fails(home)
    assert "the state cannot be read or written: disk I/O error" in refused
    assert "Traceback" not in refused
    home.fail()
    home.begin()
    assert home.service() == before, "the very same process"
    _lands(home, revision, body, "two")


def _start_that_fails(home: Failing) -> str:
    """What it says when it cannot begin."""
    length = len(home.log.read_text())
    home.start(wait=False, more={"LD_PRELOAD": str(home.shim), "FAILING": str(home.directory / "failing")})
    assert home.died() == 75
    return home.log.read_text()[length:]


def test_a_backup_that_cannot_be_read_is_bad_and_the_others_stay(home: Failing) -> None:
    """F28: the one that was asked for is not restored; an older one can be chosen."""
    first = _backup(home)
    packs = set(_packs(home))
    (home.srv / "app" / "shared" / "data" / "more").write_bytes(os.urandom(300_000))
    second = _backup(home)
    (fresh,) = set(_packs(home)) - packs
    home.fail(f"read {fresh}")
    verified = home.command("backup", "verify", second)
    assert verified.returncode == 1
    states = {item["id"]: item["state"] for item in home.get("/api/v1/backups").document["items"]}
    assert (states[first], states[second]) == ("ok", "bad")
    assert home.command("backup", "restore", second).returncode == 1
    assert home.command("backup", "verify", first).returncode == 0
    assert home.command("backup", "restore", first, "--without-backup").returncode == 0
    assert home.service()["version"] == "one"  # type: ignore[index]
    names = [event["name"] for event in home.get("/api/v1/events?limit=200").document["items"]]
    assert "backup.bad" in names
    assert "Traceback" not in home.log.read_text()


def _backup(home: Failing) -> str:
    made = home.command("backup", "create", "app", "--json")
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = home.get("/api/v1/backups").document["items"][0]
    return str(found["id"])


def _packs(home: Failing) -> list[str]:
    return [path.name for path in (home.state / "backups" / "app" / "packs").iterdir()]


RULES = {
    "write /srv/app/releases/": "failed",
    "sync /srv/app/releases/": "failed",
    "write /state/backups/": "failed",
    "sync /state/backups/": "failed",
    "rename /srv/app/current": "rolled_back",
}


def test_a_deployment_that_the_disk_does_not_take_ends_and_the_old_version_serves(home: Failing) -> None:
    """F22, F28, R-RB-6: wherever it fails, nobody is blamed, and it deploys when the disk is well."""
    before = home.service()
    revision = home.remotes["app"].commit("two")
    for number, (rule, state) in enumerate(RULES.items()):
        body = home.push_body(revision) + b" " * number
        home.fail(rule)
        ended = home.ended(home.deliver(revision, body=body).document["deployments"][0]["id"])
        assert (ended["state"], ended["reason"], ended["fault"]) == (state, "disk-failed", "world"), rule
        assert home.service() == before, "the very same process"
    assert home.get("/status").document["services"]["app"]["quarantine"] == []
    home.fail()
    assert home.command("deploy", "--wait").returncode == 0
    assert home.service()["version"] == "two"  # type: ignore[index]


def test_a_state_that_is_removed_is_told_with_the_next_write(home: Failing) -> None:
    """F32: nothing more is promised; the service goes on."""
    before = home.service()
    (home.state / "state.db").rename(home.state / "aside.db")
    answer = home.deliver("a" * 40)
    assert (answer.status, answer.document["code"]) == (503, "store-unavailable")
    assert home.status() == "degraded"
    assert "was removed while the agent was running" in home.command("status").stdout
    assert home.service() == before
    assert not (home.state / "state.db").exists(), "an empty one would hide that it is gone"
    (home.state / "aside.db").rename(home.state / "state.db")
    wait_for("the end of the trouble", lambda: home.status() == "healthy")
    assert home.deploy("two")["state"] == "succeeded"
    (home.state / "state.db").unlink()
    assert home.deliver("b" * 40).status == 503
    home.kill()
    home.begin()
    assert home.service()["version"] == "two", "what serves is left alone"  # type: ignore[index]
    told = wait_for("the hold", lambda: home.get("/status").document["services"]["app"]["hold"])
    assert "the state was lost" in told["reason"]
    ignored = home.deliver(home.remotes["app"].commit("three"))
    assert (ignored.document["decision"], ignored.document["reason"]) == ("ignored", "held")
    assert home.command("resume", "app").returncode == 0
    wait_for("the newest version", lambda: (home.service() or {}).get("version") == "three")
