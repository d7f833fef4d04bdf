"""F53: the clock on the wall jumps while the real agent works; R-PL-7: a Pi boots without one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import State
from agent.core.pipeline import TABLE
from tests.world import Answer, Home, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(900)]

ENTRY = (str(Path(__file__).with_name("jumping.py")),)
YEAR = 365 * 86400
JUMPS = {"a year ahead": YEAR, "a year behind": -YEAR, "1970": -56 * YEAR}
STATES = [state for state in TABLE if state is not State.QUEUED]


WATCHED = (State.VERIFYING, State.ROLLING_BACK)
MID_SECONDS = 0.1
"""After the start of what is watched, which takes twice as long: two successes and the soak."""


class Past:
    """What a home has lived through, and must still know."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.bodies: list[tuple[bytes, str]] = []
        self.backups: set[str] = set()
        self.releases: set[str] = set()
        self.versions = 0

    def deploy(self, mode: str = "good") -> dict[str, Any]:
        """One more push, to its end."""
        self.versions += 1
        revision = self.home.remotes["app"].commit(f"v{self.versions}", mode)
        body = self.home.push_body(revision)
        answer = self.home.deliver(revision, body=body)
        assert answer.status == 202, answer
        ended = self.home.ended(answer.document["deployments"][0]["id"], 120)
        self.bodies.append((body, ended["id"]))
        if ended["state"] == "succeeded":
            self.releases.add(self.home.current())
        return ended

    def check(self) -> None:
        """Nothing was lost, nothing is held, nothing ran twice, and the order is the one in which it happened."""
        backups = [item["id"] for item in self.home.get("/api/v1/backups?limit=100").document["items"]]
        assert self.backups <= set(backups)
        self.backups = set(backups)
        kept = {path.name for path in (self.home.srv / "app" / "releases").iterdir()}
        assert self.releases <= kept
        for body, deployment in self.bodies:
            answer = self.home.deliver("", body=body)
            assert answer.document["decision"] == "duplicate", answer
            assert [item["id"] for item in answer.document["deployments"]] == [deployment]
        told = self.home.get("/api/v1/deployments?limit=100").document["items"]
        assert [item["id"] for item in told] == [deployment for _, deployment in self.bodies[::-1]]
        assert [backup["deployment"] for backup in self._backups()] == [
            item["id"] for item in told if self._has_backup(item)
        ]
        service = self.home.get("/status").document["services"]["app"]
        assert service["hold"] is None
        assert service["last_backup"]["id"] == backups[0]
        assert self.home.service()["version"] == self._live(told)  # type: ignore[index]

    def _backups(self) -> list[dict[str, Any]]:
        return list(self.home.get("/api/v1/backups?limit=100").document["items"])

    def _has_backup(self, deployment: dict[str, Any]) -> bool:
        return any(step["name"] == "backing_up" and step["state"] == "done" for step in deployment["steps"])

    def _live(self, told: list[dict[str, Any]]) -> str:
        newest = next(number for number, item in enumerate(told) if item["state"] == "succeeded")
        return f"v{len(told) - newest}"


def start(home: Home, at: str, to: int) -> None:
    jump(home, at, to)
    home.start(entry=ENTRY, wait=True, more={"JUMPING_FILE": str(home.directory / "jump")})


def jump(home: Home, at: str, to: int, after: float = 0) -> None:
    """From now on the agent's clock jumps there."""
    written = home.directory / "jump.new"
    written.write_text(json.dumps({"at": at, "to": to, "after": after}))
    written.replace(home.directory / "jump")


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    """A quick one in which the rules let nothing go by themselves."""
    made = make_home()
    app = made.settings["services"]["app"]
    app["health"] |= {"soak": "200ms", "every": "30ms", "timeout": "60s"}
    app["deploy"] |= {"keep_releases": 90}
    app["backup"]["keep"] = {"last": 90, "daily": 9, "weekly": 0}
    app["rollback"] = {"max_per_hour": 9}
    made.save()
    return made


@pytest.mark.parametrize("name", JUMPS)
def test_a_clock_that_jumps_in_any_state_changes_no_end_and_loses_nothing(home: Home, name: str) -> None:
    """F53: there in one state and back in the next, as a time server does it in the middle of a deployment."""
    start(home, "never", 0)
    past = Past(home)
    for _ in range(2):
        assert past.deploy()["state"] == "succeeded"
    for number, state in enumerate(STATES):
        to = JUMPS[name] if (number + len(name)) % 2 == 0 else 0
        jump(home, state, to, MID_SECONDS if state in WATCHED else 0)
        mode = "crash" if state is State.ROLLING_BACK else "good"
        ended = past.deploy(mode)
        assert ended["state"] == ("succeeded" if mode == "good" else "rolled_back"), (state, ended)
    past.check()
    home.stop()
    start(home, "never", 0)
    past.check()


def test_a_pi_that_boots_in_1970_works_and_finds_everything_again(home: Home) -> None:
    """F53, R-PL-7: through the time server's step in the middle of a build, and through another boot."""
    start(home, "never", 0)
    past = Past(home)
    for _ in range(3):
        assert past.deploy()["state"] == "succeeded"
    past.check()
    home.stop()
    start(home, "boot", JUMPS["1970"])
    past.check()
    wait_for("the first look", lambda: home.get("/health").document["status"] == "healthy")
    for _ in range(2):
        assert past.deploy()["state"] == "succeeded"
    assert past.deploy("crash")["state"] == "rolled_back"
    refused = wait_for("the deployment's own pruning", lambda: _pruned(home))
    assert (refused.status, refused.document["code"]) == (409, "prune-refused")
    past.check()
    jump(home, "building", 0)
    assert past.deploy()["state"] == "succeeded"
    past.check()
    home.stop()
    start(home, "boot", JUMPS["1970"])
    past.check()
    assert home.post("/api/v1/services/app/rollback").status == 202


def _pruned(home: Home) -> Answer | None:
    answer = home.post("/api/v1/backups/prune")
    return None if answer.status == 503 else answer
