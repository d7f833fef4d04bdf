"""Which revision runs, and when not: from outside, with the installed command and a real repository."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.github import a_repository, a_workflow_run
from tests.world import Home, wait_for

pytestmark = pytest.mark.outside


def serves(home: Home, version: str) -> Any:
    return wait_for(f"{version} to serve", lambda: (home.service() or {}).get("version") == version)


def told(deployment: dict[str, Any]) -> tuple[str, str]:
    return deployment["state"], deployment["reason"]


def delivered(home: Home, revision: str) -> dict[str, Any]:
    """The end of what a delivery leads to."""
    answer = home.deliver(revision)
    assert answer.status == 202, answer
    return home.ended(answer.document["deployments"][0]["id"])


def app(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = home.get("/status").document["services"]["app"]
    return found


def with_source(make_home: Callable[..., Home], **source: Any) -> Home:
    """A running agent whose service has these options of `source`."""
    home = make_home()
    home.settings["services"]["app"]["source"] |= source
    home.save()
    home.start()
    return home


def test_a_commit_whose_delivery_never_came_is_found_by_the_poll_at_the_start(
    make_home: Callable[..., Home],
) -> None:
    """R-RX-26, F2: pushed while the Pi was off; GitHub does not send it again."""
    home = with_source(make_home, poll="10s")
    assert app(home)["live"] is None
    home.stop()
    revision = home.remotes["app"].commit("one")
    home.start()
    serves(home, "one")
    (made,) = home.get("/api/v1/deployments").document["items"]
    assert (made["trigger"]["kind"], made["revision"]) == ("poll", revision)
    assert home.ended(made["id"])["state"] == "succeeded"
    late = home.deliver(revision)
    assert home.ended(late.document["deployments"][0]["id"])["reason"] == "already-live"
    status = home.command("status")
    assert f"poll     {revision[:7]}, " in status.stdout, status.stdout + status.stderr


def test_a_commit_whose_delivery_never_came_is_found_by_the_next_poll(make_home: Callable[..., Home]) -> None:
    """R-RX-26. Then the branch is reset, and that is followed as well (R-RX-24)."""
    home = with_source(make_home, poll="10s")
    home.deploy("one")
    first = app(home)["live"]["revision"]
    wait_for("the first poll", lambda: app(home)["poll"])
    second = home.remotes["app"].commit("two")
    serves(home, "two")
    wait_for("the next poll", lambda: app(home)["poll"]["note"] == "the tip is live")
    assert app(home)["poll"]["tip"] == second
    home.remotes["app"].reset(first)
    serves(home, "one")
    (event,) = [item for item in home.get("/api/v1/events?limit=200").document["items"]
                if item["name"] == "branch.reset"]  # fmt: skip
    assert event["data"] == {"branch": "main", "old": second, "new": first}


def test_a_poll_leaves_a_bad_revision_alone(make_home: Callable[..., Home]) -> None:
    """R-RB-2, F70."""
    home = with_source(make_home, poll="10s")
    home.deploy("one")
    bad = home.deploy("two", "crash")
    assert bad["state"] == "rolled_back"
    at = app(home)["poll"]["at"]
    wait_for("another poll", lambda: app(home)["poll"]["at"] > at)
    assert "quarantined" in app(home)["poll"]["note"]
    assert home.get("/api/v1/deployments").document["items"][0]["id"] == bad["id"]


def test_without_polls_the_status_says_nothing_of_them(home: Home) -> None:
    assert app(home)["poll"] is None
    assert app(home)["frozen_until"] is None


def test_a_commit_that_asks_for_it_is_skipped_until_a_person_wants_it(home: Home) -> None:
    home.deploy("one")
    process = home.service()
    revision = home.remotes["app"].commit("two", message="only words\n\n[Skip Deploy]")
    ended = delivered(home, revision)
    assert told(ended) == ("superseded", "skip-deploy")
    assert ended["hint"]
    assert home.service() == process
    done = home.command("deploy", "app", "--wait")
    assert done.returncode == 0, done.stdout
    serves(home, "two")


def test_only_changes_of_the_named_paths_deploy_by_themselves(make_home: Callable[..., Home]) -> None:
    """Compared with what is live: what was passed over comes with the next one that counts."""
    home = with_source(make_home, paths=["version", "*.py", "!test_*.py"])
    home.deploy("one")
    process = home.service()
    for files in ({"README__md": "1"}, {"test_app__py": "1"}):
        assert told(delivered(home, home.remotes["app"].commit("one", **files))) == (
            "superseded",
            "paths-unchanged",
        )
    assert home.service() == process
    revision = home.remotes["app"].commit("one", other__py="x = 1")
    assert told(delivered(home, revision)) == ("succeeded", "")
    service = home.service()
    assert service is not None
    assert service["revision"] == revision
    unchanged = home.remotes["app"].commit("one", README__md="2")
    assert told(delivered(home, unchanged)) == ("superseded", "paths-unchanged")
    done = home.command("--json", "deploy", "app", "--revision", unchanged, "--wait")
    assert json.loads(done.stdout)["deployment"]["state"] == "succeeded"


def test_deliveries_out_of_order_end_with_the_newest(home: Home) -> None:
    """R-RX-23, F47."""
    home.deploy("one")
    older, newer = home.remotes["app"].commit("two"), home.remotes["app"].commit("three")
    assert told(delivered(home, newer)) == ("succeeded", "")
    process = home.service()
    assert told(delivered(home, older)) == ("succeeded", "already-live")
    assert home.service() == process
    assert process is not None
    assert process["version"] == "three"


def test_green_commits_out_of_order_end_with_the_newest_and_a_poll_only_looks(
    make_home: Callable[..., Home],
) -> None:
    """R-RX-23: exactly the green commit, never backwards; and an untested tip is not deployed by a poll."""
    home = make_home("app", deploy={"on": ["workflow_run"], "workflow": "ci.yml", "shared": ["data"]})
    home.settings["services"]["app"]["source"] |= {"poll": "10s"}
    home.save()
    home.start()
    remote = home.remotes["app"]
    older, newer, untested = (remote.commit(version) for version in ("one", "two", "three"))

    def green(revision: str) -> dict[str, Any]:
        ours = a_repository(full_name="me/app", name="app")
        run = {"head_sha": revision, "head_repository": ours}
        body = json.dumps(a_workflow_run(run, repository=ours)).encode()
        answer = home.deliver("", body=body, event="workflow_run")
        return home.ended(answer.document["deployments"][0]["id"])

    assert told(green(newer)) == ("succeeded", "")
    process = home.service()
    assert told(green(older)) == ("superseded", "newer-live")
    assert home.service() == process
    assert process is not None
    assert process["version"] == "two"
    wait_for("a poll", lambda: (app(home)["poll"] or {}).get("tip") == untested)
    assert "no push" in app(home)["poll"]["note"]
    assert len(home.get("/api/v1/deployments").document["items"]) == 2
    back = home.command("--json", "deploy", "app", "--revision", older, "--wait")
    assert json.loads(back.stdout)["deployment"]["state"] == "succeeded", "a person may go back"


def test_many_pushes_during_a_deployment_are_one_more(make_home: Callable[..., Home]) -> None:
    """F48, R-RX-25: as one burst of deliveries, out of order, while the first is being built."""
    home = make_home()
    go = home.directory / "go"
    build = f"while [ ! -e {go} ]; do sleep 0.05; done"
    home.settings["services"]["app"]["deploy"]["build"] = {"commands": [build], "timeout": "5m"}
    home.save()
    home.start()
    first = home.push("one")
    wait_for("the build", lambda: home.deployment(first)["state"] == "building")
    commits = [home.remotes["app"].commit(f"v{number}") for number in range(30)]
    placed = [home.deliver(revision).document["deployments"][0]["id"] for revision in reversed(commits)]
    go.touch()
    ends = [told(home.ended(identity)) for identity in placed]
    assert ends == [("superseded", "newer-queued")] * 29 + [("succeeded", "")]
    assert home.ended(first)["state"] == "succeeded"
    service = home.service()
    assert service is not None
    assert service["revision"] == commits[-1]


def test_a_redelivery_is_the_same_after_a_restart_as_well(home: Home) -> None:
    """F46: one after the other, ten at once is elsewhere, and after a kill."""
    revision = home.remotes["app"].commit("one")
    body = home.push_body(revision)
    first = home.deliver(revision, body=body).document["deployments"]
    home.ended(first[0]["id"])
    process = home.service()
    for how in (home.kill, home.stop):
        how()
        home.start()
        again = home.deliver(revision, body=body)
        assert (again.status, again.document["decision"]) == (200, "duplicate")
        assert again.document["deployments"] == first
    assert len(home.get("/api/v1/deployments").document["items"]) == 1
    assert home.service() == process


def test_inside_a_freeze_only_a_person_deploys(make_home: Callable[..., Home]) -> None:
    home = make_home()
    now = datetime.now().astimezone()
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    begin, end = now - timedelta(hours=2), now + timedelta(hours=2)
    edges = {name: f"{days[at.weekday()]} {at:%H:%M}" for name, at in (("from", begin), ("to", end))}
    home.settings["services"]["app"]["deploy"]["freeze"] = [edges]
    home.save()
    home.start()
    waiting = home.push("one")
    assert home.deployment(waiting)["state"] == "queued"
    until = app(home)["frozen_until"]
    assert until is not None
    assert abs(datetime.fromisoformat(until) - end) < timedelta(minutes=1, seconds=1)
    assert "frozen   until" in home.command("status").stdout
    home.kill()
    home.start()
    assert home.deployment(waiting)["state"] == "queued", "it is never lost"
    done = home.command("deploy", "app", "--wait")
    assert done.returncode == 0, done.stdout
    serves(home, "one")
    assert told(home.ended(waiting)) == ("superseded", "newer-queued")
