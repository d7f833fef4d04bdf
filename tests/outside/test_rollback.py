"""Going back, as a person does it: the installed command, a real service, HTTP from outside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.github import a_fork, a_repository, a_workflow_run
from tests.world import Answer, Home, wait_for

pytestmark = pytest.mark.outside


def live(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = home.get("/status").document["services"]["app"]["live"]
    return found


def version(home: Home) -> str | None:
    service = home.service()
    return None if service is None else service["version"]


@pytest.fixture
def two(home: Home) -> tuple[Home, dict[str, Any], dict[str, Any]]:
    """One was live, and then two."""
    return home, home.deploy("one"), home.deploy("two")


def test_a_person_goes_back_by_command(two: tuple[Home, dict[str, Any], dict[str, Any]]) -> None:
    """R-RB-10."""
    home, one, two_ = two
    done = home.command("rollback", "app", "--wait", "--reason", "two is too slow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rolling_back" in done.stdout
    assert f"app: back to {one['revision'][:7]} succeeded" in done.stdout
    assert version(home) == "one"
    assert (live(home)["release"], home.current()) == (one["release"], one["release"])
    status = home.command("status").stdout
    assert f"back to {one['revision'][:7]}  succeeded" in status
    last = home.get("/status").document["services"]["app"]["last"]
    assert (last["revision"], last["previous"]) == (one["revision"], two_["revision"])
    assert last["trigger"]["kind"] == "manual"
    assert [step["name"] for step in last["steps"]] == ["queued", "rolling_back"]
    queued = [
        event for event in home.get("/api/v1/events").document["items"] if event["deployment"] == last["id"]
    ]
    assert queued[-1]["data"]["reason"] == "two is too slow"


def test_what_was_left_is_ignored_and_a_fix_goes_live(
    two: tuple[Home, dict[str, Any], dict[str, Any]],
) -> None:
    """R-RB-2; by hand it also comes back."""
    home, one, left = two
    assert home.command("rollback", "app", "--wait").returncode == 0
    (quarantined,) = home.get("/status").document["services"]["app"]["quarantine"]
    assert (quarantined["revision"], quarantined["reason"]) == (left["revision"], "left-by-hand")
    body = json.loads(home.push_body(left["revision"])) | {"pushed_again": True}
    answer = home.deliver("", body=json.dumps(body).encode())
    assert (answer.status, answer.document["decision"], answer.document["reason"]) == (
        200,
        "ignored",
        "quarantined",
    )
    refused = home.command("deploy", "app", "--revision", left["revision"])
    assert refused.returncode == 1
    assert "quarantined" in refused.stderr
    fix = home.deploy("three")
    assert (fix["state"], fix["previous"]) == ("succeeded", one["revision"])
    assert version(home) == "three"
    forth = home.command("rollback", "app", "--to", left["release"], "--wait", "--json")
    assert json.loads(forth.stdout)["revision"] == left["revision"]
    assert version(home) == "two"
    assert [item["revision"] for item in home.get("/status").document["services"]["app"]["quarantine"]] == [
        fix["revision"]
    ]


def test_an_unknown_and_a_changed_release_are_refused_and_nothing_stops(
    two: tuple[Home, dict[str, Any], dict[str, Any]],
) -> None:
    """R-RB-10: refuses a wrong tree hash."""
    home, one, _ = two
    process = home.service()
    unknown = home.command("rollback", "app", "--to", "99-abcdef0", "--wait")
    assert unknown.returncode == 1
    assert "no-release" in unknown.stdout
    assert one["release"] in unknown.stdout, "it says which ones there are"
    (home.srv / "app" / "releases" / one["release"] / "version").write_text("edited")
    changed = home.command("rollback", "app", "--to", one["release"], "--wait")
    assert changed.returncode == 1
    assert "release-changed" in changed.stdout
    assert home.service() == process
    assert home.command("rollback", "nobody").returncode == 2
    assert home.command("rollback", "app", "--to", "../../etc").returncode == 2
    already = home.command("rollback", "app", "--to", home.current(), "--wait")
    assert already.returncode == 0
    assert "already-live" in already.stdout
    assert home.service() == process


def test_a_target_that_does_not_come_up_is_broken_and_a_fix_still_goes_live(
    make_home: Callable[..., Home],
) -> None:
    """R-RB-5, F68."""
    home = make_home()
    home.settings["services"]["app"]["health"] |= {"timeout": "4s"}
    home.save()
    home.start()
    one = home.deploy("one")
    home.deploy("two")
    blocker = home.srv / "app" / "shared" / "data" / "sick-one"
    blocker.write_text("")
    done = home.command("rollback", "app", "--wait")
    assert done.returncode == 1, done.stdout
    assert "broken" in done.stdout
    assert "rollback-failed" in done.stdout
    status = home.get("/status").document["services"]["app"]
    assert (status["live"]["release"], status["live"]["proven"]) == (one["release"], False)
    assert status["hold"] is None
    wait_for("the monitor", lambda: home.get("/health").document["services"]["app"] == "unhealthy")
    assert home.deploy("three")["state"] == "succeeded"
    assert version(home) == "three"


def test_a_rollback_that_fails_after_a_bad_push_is_broken(make_home: Callable[..., Home]) -> None:
    """R-RB-5, F68: not rolled back again; what is left there is asked on."""
    home = make_home()
    home.settings["services"]["app"]["health"] |= {"timeout": "4s"}
    home.save()
    home.start()
    one = home.deploy("one")
    (home.srv / "app" / "shared" / "data" / "sick-one").write_text("")
    bad = home.deploy("two", "crash")
    assert (bad["state"], bad["reason"]) == ("broken", "rollback-failed")
    assert home.current() == one["release"]
    wait_for("the monitor", lambda: home.get("/health").document["services"]["app"] == "unhealthy")
    (home.srv / "app" / "shared" / "data" / "sick-one").unlink()
    wait_for("the monitor", lambda: home.get("/health").document["services"]["app"] == "healthy")


def test_when_no_release_is_left_the_revision_that_was_live_is_built_again(home: Home) -> None:
    """CONTRACT, Fallback."""
    one = home.deploy("one")
    revision = home.remotes["app"].commit("two", "crash")
    _remove(home.srv / "app" / "releases" / one["release"])
    answer = home.deliver(revision)
    bad = home.ended(answer.document["deployments"][0]["id"])
    assert (bad["state"], bad["reason"]) == ("rolled_back", "process-died")
    assert version(home) == "one"
    assert (live(home)["revision"], live(home)["release"]) == (one["revision"], home.current())
    assert home.current() != one["release"]


def _remove(release: Path) -> None:
    """As somebody does who makes room: its marker is enough for it not to count."""
    (release / ".homeport-release.json").unlink()


def test_a_revert_and_a_branch_that_is_reset_are_deployments_like_any_other(home: Home) -> None:
    """R-RB-3."""
    one = home.deploy("one")
    home.deploy("two")
    revert = home.deploy("one")
    assert revert["state"] == "succeeded"
    assert revert["revision"] != one["revision"]
    assert version(home) == "one"
    home.deploy("four")
    home.remotes["app"].reset(one["revision"])
    answer = home.deliver(
        "", body=json.dumps(json.loads(home.push_body(one["revision"])) | {"forced": True}).encode()
    )
    again = home.ended(answer.document["deployments"][0]["id"])
    assert (again["state"], again["revision"]) == ("succeeded", one["revision"])
    assert version(home) == "one"


def test_asked_for_while_a_deployment_runs_it_waits(make_home: Callable[..., Home]) -> None:
    """F96: never parallel."""
    home = make_home()
    gate = home.directory / "gate"
    home.settings["services"]["app"]["deploy"]["build"] = {
        "commands": [f"while [ -e {gate} ]; do sleep 0.05; done"]
    }
    home.save()
    home.start()
    one = home.deploy("one")
    home.deploy("two")
    gate.touch()
    identity = home.push("three")
    wait_for("the build", lambda: home.deployment(identity)["state"] == "building")
    made = home.post("/api/v1/services/app/rollback", {"to": one["release"]})
    assert (made.status, made.document["state"]) == (202, "queued")
    gate.unlink()
    ended = home.ended(made.document["id"])
    third = home.deployment(identity)
    assert (third["state"], ended["state"]) == ("succeeded", "succeeded")
    assert ended["steps"][1]["started_at"] >= third["finished_at"]
    assert ended["previous"] == third["revision"]
    assert version(home) == "one"


OURS = a_repository(full_name="me/app", name="app")


def run_failed(home: Home, revision: str, **run: Any) -> Answer:
    """GitHub tells that e2e.yml failed for a commit."""
    failed = {
        "head_sha": revision,
        "head_repository": OURS,
        "conclusion": "failure",
        "event": "workflow_dispatch",
    }
    document = a_workflow_run(failed | {"path": ".github/workflows/e2e.yml"} | run, repository=OURS)
    return home.deliver("", body=json.dumps(document).encode(), event="workflow_run")


@pytest.fixture
def watched(make_home: Callable[..., Home]) -> Home:
    """An agent whose service e2e.yml leads back."""
    home = make_home("app", rollback={"on_workflow": "e2e.yml"})
    home.start()
    return home


def test_a_workflow_that_fails_after_the_deployment_rolls_it_back(watched: Home) -> None:
    """rollback.on_workflow: exactly the live revision, once, within the guard."""
    home = watched
    one, two = home.deploy("one"), home.deploy("two")
    for told, answer in {
        "not-live": run_failed(home, one["revision"]),
        "run-not-failed": run_failed(home, two["revision"], conclusion="success"),
        "run-of-fork": run_failed(home, two["revision"], head_repository=a_fork()),
        "run-not-chosen": run_failed(home, two["revision"], event="pull_request"),
        "other-branch": run_failed(home, two["revision"], head_branch="next"),
    }.items():
        assert (answer.status, answer.document["reason"]) == (200, told)
    assert version(home) == "two"
    answer = run_failed(home, two["revision"])
    assert (answer.status, answer.document["decision"]) == (202, "deploy")
    back = home.ended(answer.document["deployments"][0]["id"])
    assert (back["state"], back["reason"]) == ("rolled_back", "workflow-failed")
    assert (back["revision"], back["previous"]) == (two["revision"], one["revision"])
    assert [step["name"] for step in back["steps"]] == ["queued", "rolling_back"]
    assert version(home) == "one"
    again = run_failed(home, two["revision"])
    assert (again.status, again.document["decision"]) == (200, "duplicate")
    assert again.document["deployments"] == answer.document["deployments"]
    body = json.dumps(json.loads(home.push_body(two["revision"])) | {"again": True}).encode()
    assert home.deliver("", body=body).document["reason"] == "quarantined"
    assert home.get("/status").document["services"]["app"]["hold"] is None
    three = home.deploy("three")
    assert three["state"] == "succeeded"
    second = run_failed(home, three["revision"])
    assert home.ended(second.document["deployments"][0]["id"])["state"] == "rolled_back"
    assert home.get("/status").document["services"]["app"]["hold"]["reason"] == "2 rollbacks within an hour"
    assert version(home) == "one"


def test_a_workflow_that_fails_where_nothing_is_to_go_back_to_stops_nothing(watched: Home) -> None:
    only = watched.deploy("one")
    process = watched.service()
    answer = run_failed(watched, only["revision"])
    assert (answer.status, answer.document["reason"]) == (200, "no-fallback")
    assert watched.service() == process
