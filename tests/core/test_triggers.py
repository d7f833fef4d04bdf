"""Which runs and releases deploy, and what says no to the others."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import payload, triggers
from agent.core.codes import CODES
from agent.core.errors import Refused
from agent.core.payload import Payload, Release, WorkflowRun
from agent.core.triggers import Deploy, GoBack, Ignore
from tests.build import a_service
from tests.github import OLD, SHA, a_fork, a_release, a_repository, a_workflow_run

SOURCE = {"repository": "git@github.com:me/scraper.git", "branch": "main"}


def read(event: str, document: Any) -> Payload:
    return payload.read(event, "guid-1", json.dumps(document).encode())


def decide(
    event: str, document: Any, source: dict[str, Any] | None = None, **deploy: Any
) -> Deploy | GoBack | Ignore:
    service = a_service(source=SOURCE | (source or {}), deploy={"on": [event]} | deploy)
    (decision,) = triggers.decide(read(event, document), {"scraper": service})
    return decision


def of_run(document: Any, **deploy: Any) -> Deploy | GoBack | Ignore:
    return decide("workflow_run", document, **({"workflow": "ci.yml"} | deploy))


def of_release(document: Any, **deploy: Any) -> Deploy | GoBack | Ignore:
    return decide("release", document, **deploy)


GREEN = Deploy("scraper", SHA, requested=SHA)


# --- workflow_run


def test_a_green_run_deploys_exactly_its_commit() -> None:
    """R-RX-22: not the branch's tip."""
    assert of_run(a_workflow_run()) == GREEN


@pytest.mark.parametrize("conclusion", [
    "failure", "cancelled", "skipped", "neutral", "timed_out", "action_required", "stale", "startup_failure",
    "Success", "", None, True, ["success"],
])  # fmt: skip
def test_a_run_that_did_not_succeed_deploys_nothing(conclusion: object) -> None:
    """R-RX-22."""
    assert of_run(a_workflow_run({"conclusion": conclusion})) == Ignore("scraper", "run-not-green")


@pytest.mark.parametrize("action", ["requested", "in_progress", "Completed", "", None])
def test_a_run_that_has_not_ended_deploys_nothing(action: object) -> None:
    """R-RX-22: whatever its conclusion says."""
    assert of_run(a_workflow_run(action=action)) == Ignore("scraper", "run-not-completed")
    begun = a_workflow_run({"conclusion": None, "status": "in_progress"}, action=action)
    assert of_run(begun) == Ignore("scraper", "run-not-completed")


def test_a_fork_whose_branch_has_the_same_name_deploys_nothing() -> None:
    """R-RX-22: head_branch main of a fork; for GitHub the repository of the event is ours all the same."""
    for event in ("push", "pull_request", "workflow_dispatch"):
        forked = a_workflow_run({"head_repository": a_fork(), "event": event})
        assert of_run(forked) == Ignore("scraper", "run-of-fork")


@pytest.mark.parametrize("head", [
    None, {}, {"id": None}, {"id": "35129377"}, {"id": 35129377.0}, {"id": True}, {"full_name": "me/scraper"}, [],
    35129377, a_fork(full_name="me/scraper"),
])  # fmt: skip
def test_a_run_whose_head_repository_is_not_the_own_deploys_nothing(head: object) -> None:
    """R-RX-22: null is a fork that was deleted; what counts is the number, and nothing else."""
    assert of_run(a_workflow_run({"head_repository": head})) == Ignore("scraper", "run-of-fork")
    missing = a_workflow_run()
    del missing["workflow_run"]["head_repository"]
    assert of_run(missing) == Ignore("scraper", "run-of-fork")


def test_two_repositories_without_a_number_are_not_the_same() -> None:
    """R-RX-22."""
    nameless = {"full_name": "me/scraper"}
    document = a_workflow_run({"head_repository": nameless}, repository=nameless)
    assert of_run(document) == Ignore("scraper", "run-of-fork")


@pytest.mark.parametrize("event", [
    "pull_request", "pull_request_target", "workflow_dispatch", "schedule", "workflow_run", "release", "Push", "", None,
])  # fmt: skip
def test_a_run_for_anything_but_a_push_deploys_nothing(event: object) -> None:
    """R-RX-22: a pull request's code was not accepted by anybody, also when its branch lies in our repository."""
    assert of_run(a_workflow_run({"event": event})) == Ignore("scraper", "run-not-chosen")


def test_runs_by_hand_and_by_schedule_deploy_if_they_are_chosen() -> None:
    """R-RX-22."""
    chosen = ["push", "workflow_dispatch", "schedule"]
    for event in chosen:
        assert of_run(a_workflow_run({"event": event}), workflow_events=chosen) == GREEN
    assert of_run(a_workflow_run(), workflow_events=["schedule"]) == Ignore("scraper", "run-not-chosen")


@pytest.mark.parametrize(
    "branch", ["main2", "feature/main", "Main", "main\n", "refs/heads/main", "heads/main", "v1.2", "", None]
)
def test_a_run_on_another_branch_deploys_nothing(branch: object) -> None:
    """R-RX-22, R-RX-19: exactly the name."""
    assert of_run(a_workflow_run({"head_branch": branch})) == Ignore("scraper", "other-branch")


@pytest.mark.parametrize("path", [
    ".github/workflows/my-ci.yml", ".github/workflows/e2e.yml", ".github/workflows/ci.yaml", "ci.yml",
    ".github/workflows/ci.yml2", ".github/workflows/old/ci.yml", ".github/workflows/CI.yml", "dynamic/ci.yml",
    "/.github/workflows/ci.yml", "evil/scraper/.github/workflows/ci.yml@refs/heads/main",
    ".github/workflows/my-ci.yml@ci.yml",
])  # fmt: skip
def test_a_run_of_another_workflow_deploys_nothing(path: str) -> None:
    """R-RX-22: among them files that end alike."""
    workflow = {"id": 1, "name": "CI", "path": path}
    assert of_run(a_workflow_run({"path": path}, workflow=workflow)) == Ignore("scraper", "other-workflow")


def test_a_workflow_that_calls_itself_by_the_files_name_is_another_one() -> None:
    """R-RX-22: whoever may add a workflow may call it as he likes."""
    run = {"path": ".github/workflows/evil.yml", "name": "ci.yml"}
    assert of_run(a_workflow_run(run, workflow={"name": "ci.yml"})) == Ignore("scraper", "other-workflow")


@pytest.mark.parametrize("path", [
    ".github/workflows/ci.yml@main", ".github/workflows/ci.yml@refs/heads/main", ".github/workflows/ci.yml@a@b",
])  # fmt: skip
def test_a_ref_may_follow_the_workflows_file(path: str) -> None:
    assert of_run(a_workflow_run({"path": path})) == GREEN


def test_a_workflow_may_be_chosen_by_its_name() -> None:
    assert of_run(a_workflow_run(), workflow="CI") == GREEN
    assert of_run(a_workflow_run(), workflow="ci") == Ignore("scraper", "other-workflow")
    titled = a_workflow_run({"name": "CI"}, workflow={"name": "Nightly", "path": ".github/workflows/ci.yml"})
    assert of_run(titled, workflow="CI") == Ignore("scraper", "other-workflow"), "`run-name` is free text"


def test_the_workflows_file_and_name_are_taken_from_where_they_are() -> None:
    """GitHub may leave either out."""
    assert of_run(a_workflow_run(workflow=None)) == GREEN
    assert of_run(a_workflow_run(workflow=None), workflow="CI") == GREEN
    without = a_workflow_run({"path": None, "name": None})
    assert (of_run(without), of_run(without, workflow="CI")) == (GREEN, GREEN)
    nothing = a_workflow_run({"path": None, "name": None}, workflow=None)
    assert of_run(nothing) == Ignore("scraper", "other-workflow")


@pytest.mark.parametrize(
    "sha", [None, "", SHA[:7], SHA.upper(), SHA + "\n", SHA + "0", "main", "--exec=id", "0" * 40, 1, [SHA]]
)
def test_a_run_without_a_whole_commit_is_refused(sha: object) -> None:
    """R-RX-21, R-RX-22."""
    with pytest.raises(Refused, match="body-invalid"):
        read("workflow_run", a_workflow_run({"head_sha": sha}))


def test_a_commit_of_64_digits_is_a_commit() -> None:
    """R-RX-21."""
    assert of_run(a_workflow_run({"head_sha": "a" * 64})) == Deploy("scraper", "a" * 64, requested="a" * 64)


def test_a_second_attempt_on_an_old_commit_is_admitted() -> None:
    """R-RX-22: it is green; whether it is older than what is live shows after the fetch."""
    again = a_workflow_run({"head_sha": OLD, "run_attempt": 2, "head_commit": {"id": OLD}})
    assert of_run(again) == Deploy("scraper", OLD, requested=OLD)


def test_a_green_run_of_another_repository_deploys_nothing() -> None:
    """R-RX-16."""
    other = a_repository(full_name="me/other", id=1)
    document = a_workflow_run({"head_repository": other}, repository=other)
    assert of_run(document) == Ignore("scraper", "other-repository")


def test_a_run_deploys_only_where_workflow_run_is_chosen() -> None:
    """R-RX-17."""
    assert of_run(a_workflow_run(), on=["push", "release"]) == Ignore("scraper", "event-not-chosen")
    assert of_run(a_workflow_run(), on=["push", "workflow_run"]) == GREEN


@pytest.mark.parametrize("run", [
    {"head_repository": a_fork(clone_url="https://evil.example/x.git")},
    {"repository": a_fork()}, {"head_commit": {"id": OLD}}, {"pull_requests": [{"head": {"sha": OLD}}]},
    {"check_suite_url": "https://evil.example"},
])  # fmt: skip
def test_nothing_else_in_a_run_has_a_say(run: dict[str, Any]) -> None:
    """R-RX-20: the decision is the configured service's name and a hash, or nothing."""
    assert of_run(a_workflow_run(run)) in (GREEN, Ignore("scraper", "run-of-fork"))


# --- release


def test_a_published_release_deploys_its_tag_whatever_it_is_then() -> None:
    """Which commit that is, the configured remote tells; what the payload names as its target is never looked at."""
    wanted = Deploy("scraper", None, requested="refs/tags/v1.2")
    assert of_release(a_release()) == wanted
    for target in ("evil", SHA, "", None, 1):
        assert of_release(a_release({"target_commitish": target})) == wanted


@pytest.mark.parametrize(
    "action",
    ["created", "released", "prereleased", "edited", "deleted", "unpublished", "Published", "", None],
)
def test_a_release_that_is_not_just_published_deploys_nothing(action: object) -> None:
    """`released` comes besides `published`: once is enough."""
    assert of_release(a_release(action=action)) == Ignore("scraper", "release-not-published")


def test_a_draft_deploys_nothing() -> None:
    assert of_release(a_release({"draft": True})) == Ignore("scraper", "release-draft")
    assert of_release(a_release({"draft": True}), prereleases=True) == Ignore("scraper", "release-draft")


def test_a_prerelease_deploys_if_that_is_chosen() -> None:
    early = a_release({"prerelease": True})
    assert of_release(early) == Ignore("scraper", "prerelease-not-chosen")
    assert of_release(early, prereleases=True) == Deploy("scraper", None, requested="refs/tags/v1.2")


@pytest.mark.parametrize("tag", [
    "v1", "2026.11.25", "release/1.2", "-x", "@", "HEAD", "refs/heads/main", SHA, "\u00fcber", "a@b", "v" * 200,
])  # fmt: skip
def test_whatever_git_allows_is_a_tag_and_nothing_but_a_tag(tag: str) -> None:
    """R-RX-20: it is asked for by its whole name, so that it can be neither an option, nor a branch, nor a hash."""
    assert of_release(a_release({"tag_name": tag})) == Deploy("scraper", None, requested=f"refs/tags/{tag}")


@pytest.mark.parametrize("tag", [
    None, 1, "", " ", "v 1", "v1\n", "v1\0", "..", "a..b", "a/", "/a", "a//b", "a.lock", "a.lock/b", ".a", "b/.a", "a.",
    "a~1", "a^{commit}", "a:b", "a?", "a*", "a[b", "a\\b", "a@{1}", "a\x7f", "v" * 201,
])  # fmt: skip
def test_what_git_does_not_allow_is_no_tag(tag: object) -> None:
    """R-RX-20."""
    with pytest.raises(Refused, match="body-invalid"):
        read("release", a_release({"tag_name": tag}))


@pytest.mark.parametrize(
    "differences", [{"draft": None}, {"draft": "no"}, {"prerelease": 0}, {"prerelease": None}]
)
def test_a_release_that_leaves_open_whether_it_is_one_is_refused(differences: dict[str, Any]) -> None:
    """R-RX-15."""
    with pytest.raises(Refused, match="body-invalid"):
        read("release", a_release(differences))


def test_a_release_deploys_only_where_release_is_chosen_and_from_its_repository() -> None:
    """R-RX-16, R-RX-17."""
    assert of_release(a_release(), on=["push"]) == Ignore("scraper", "event-not-chosen")
    other = a_release(repository=a_repository(full_name="me/other"))
    assert of_release(other) == Ignore("scraper", "other-repository")


# --- reading


def test_a_run_is_read_with_what_counts_of_it() -> None:
    found = read(
        "workflow_run", a_workflow_run({"conclusion": "failure", "path": ".github/workflows/e2e.yml"})
    )
    assert found.run == WorkflowRun(
        action="completed", conclusion="failure", event="push", revision=SHA, branch="main", own=True,
        path=".github/workflows/e2e.yml", name="CI",
    )  # fmt: skip
    assert (found.repository, found.ref, found.revision, found.sender) == (
        "me/scraper", "refs/heads/main", SHA, "me",
    )  # fmt: skip
    assert found.run.is_of("e2e.yml")
    assert found.run.is_of("CI")
    assert not found.run.is_of("ci.yml")


def test_a_release_is_read_with_what_counts_of_it() -> None:
    found = read("release", a_release())
    assert found.release == Release(action="published", tag="v1.2", draft=False, prerelease=False)
    assert (found.ref, found.revision, found.run) == ("refs/tags/v1.2", None, None)
    document = a_release()
    del document["release"]["draft"], document["release"]["prerelease"]
    assert read("release", document).release == found.release


@pytest.mark.parametrize("build", [a_workflow_run, a_release])
@pytest.mark.parametrize("repository", [None, {}, {"full_name": None}, {"full_name": 1}, "me/scraper"])
def test_an_event_without_its_repository_is_refused(
    build: Callable[..., dict[str, Any]], repository: object
) -> None:
    """R-RX-15."""
    event = "workflow_run" if build is a_workflow_run else "release"
    with pytest.raises(Refused, match="body-invalid"):
        read(event, build(repository=repository))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=5,
)


@given(data=st.data())
def test_whatever_stands_in_an_event_it_is_decided_or_refused_and_only_the_whole_truth_deploys(
    data: st.DataObject,
) -> None:
    """R-RX-22: no value of another type or form gets past its clause."""
    clauses = ("conclusion", "event", "head_branch", "head_repository", "path")
    changed = data.draw(st.dictionaries(st.sampled_from(clauses), ANYTHING, max_size=3))
    document = a_workflow_run(changed, workflow=None)
    decision = of_run(document)
    same = all(document["workflow_run"][name] == a_workflow_run()["workflow_run"][name] for name in changed)
    assert (decision == GREEN) == same


# --- the reason that is told


def test_of_several_services_the_one_that_came_nearest_is_told() -> None:
    near = Ignore("a", "run-not-green")
    for far in ("other-repository", "event-not-chosen", "other-workflow", "other-branch", "run-of-fork"):
        assert triggers.why([Ignore("b", far), near]) == "run-not-green"
    assert triggers.why([Ignore("a", "other-branch"), Ignore("b", "other-workflow")]) == "other-branch"


def test_every_reason_has_a_place_and_a_hint() -> None:
    source = triggers.__loader__.get_source("agent.core.triggers")  # type: ignore[union-attr]
    assert source is not None
    for reason in triggers._NEAREST:
        assert source.count(f'"{reason}"') >= 2, "nothing tells it"
        assert CODES[reason].hint
    assert len(set(triggers._NEAREST)) == len(triggers._NEAREST)


# --- what fails after the deployment: rollback.on_workflow


def after(
    run: dict[str, Any] | None = None,
    *,
    watched: str = "e2e.yml",
    deploy: dict[str, Any] | None = None,
    **document: Any,
) -> Deploy | GoBack | Ignore:
    """What a run of e2e.yml, which failed unless told otherwise, leads to for a service that pushes deploy."""
    failed = {"conclusion": "failure", "path": ".github/workflows/e2e.yml", "name": "E2E"}
    workflow = {"id": 7, "name": "E2E", "path": ".github/workflows/e2e.yml"}
    service = a_service(source=SOURCE, rollback={"on_workflow": watched}, deploy=deploy or {})
    sent = a_workflow_run(failed | (run or {}), **({"workflow": workflow} | document))
    (decision,) = triggers.decide(read("workflow_run", sent), {"scraper": service})
    return decision


@pytest.mark.parametrize("conclusion", ["failure", "timed_out"])
@pytest.mark.parametrize(
    "event", ["push", "schedule", "workflow_dispatch", "workflow_run", "deployment_status"]
)
def test_a_watched_workflow_that_fails_leads_back_from_its_commit(conclusion: str, event: str) -> None:
    """Whatever made it run: what it tests is what is deployed."""
    assert after({"conclusion": conclusion, "event": event}) == GoBack("scraper", SHA)
    assert after({"conclusion": conclusion, "event": event}, watched="E2E") == GoBack("scraper", SHA)


@pytest.mark.parametrize(
    ("reason", "run", "document"),
    [
        ("run-of-fork", {"head_repository": a_fork()}, {}),
        ("run-of-fork", {"head_repository": None}, {}),
        ("run-not-chosen", {"event": "pull_request"}, {}),
        ("run-not-chosen", {"event": "pull_request_target"}, {}),
        ("run-not-chosen", {"event": "merge_group"}, {}),
        ("other-branch", {"head_branch": "next"}, {}),
        ("run-not-completed", {}, {"action": "in_progress"}),
        ("run-not-failed", {"conclusion": "success"}, {}),
        ("run-not-failed", {"conclusion": "cancelled"}, {}),
        ("run-not-failed", {"conclusion": "skipped"}, {}),
        ("run-not-failed", {"conclusion": "startup_failure"}, {}),
        ("run-not-failed", {"conclusion": "action_required"}, {}),
        ("event-not-chosen", {"path": ".github/workflows/ci.yml"}, {}),
        ("event-not-chosen", {"path": ".github/workflows/my-e2e.yml"}, {}),
        ("other-repository", {}, {"repository": a_repository(full_name="me/other")}),
    ],
)
def test_each_clause_alone_keeps_a_failed_run_from_leading_back(
    reason: str, run: dict[str, Any], document: dict[str, Any]
) -> None:
    """As R-RX-22 for what deploys: a test for each."""
    assert after(run, **document) == Ignore("scraper", reason)


def test_a_file_is_not_taken_for_a_name() -> None:
    """Whoever can add a workflow can call it as they like."""
    named = {"id": 8, "name": "e2e.yml", "path": ".github/workflows/other.yml"}
    run = {"path": ".github/workflows/other.yml", "name": "e2e.yml"}
    assert after(run, workflow=named) == Ignore("scraper", "event-not-chosen")


def test_the_same_workflow_may_deploy_when_it_is_green_and_lead_back_when_it_is_red() -> None:
    both = {"on": ["workflow_run"], "workflow": "e2e.yml"}
    assert after({"conclusion": "success"}, deploy=both) == GREEN
    assert after(deploy=both) == GoBack("scraper", SHA)
    other = {"on": ["workflow_run"], "workflow": "ci.yml"}
    assert after({"conclusion": "success"}, deploy=other) == Ignore("scraper", "other-workflow")


def test_without_the_option_a_failed_workflow_leads_nowhere() -> None:
    assert of_run(a_workflow_run({"conclusion": "failure"})) == Ignore("scraper", "run-not-green")
    assert of_release(a_release()) != GoBack("scraper", SHA)
