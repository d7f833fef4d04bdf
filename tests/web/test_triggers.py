"""POST /webhook for the events besides push, and for forms: what is answered, and what is on the disk then."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from agent.core import github
from agent.core.model import Fault, Release, State
from agent.store.database import Database
from agent.store.transitions import Change
from tests.build import a_service
from tests.github import OLD, SHA, a_fork, a_release, a_workflow_run
from tests.web.conftest import Answer, House, a_body, a_scraper, headers_of, open_house, sign, some_settings

PUSH = a_body()
SOURCE = {"repository": "git@github.com:me/scraper.git"}


@pytest.fixture
async def careful(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """A service that deploys green runs and releases, and one that deploys pushes to another branch."""
    deploy = {"on": ["workflow_run", "release"], "workflow": "ci.yml"}
    services = {"scraper": a_service(source=SOURCE, deploy=deploy), "next": a_scraper(branch="next")}
    async for opened in open_house(tmp_path, database, some_settings(tmp_path, services=services)):
        yield opened


async def send(house: House, event: str, document: dict[str, Any], **headers: Any) -> Answer:
    body = json.dumps(document).encode()
    return await house.deliver(body, headers_of(body, X_GitHub_Event=event, **headers))


async def queued(house: House) -> list[tuple[Any, ...]]:
    return await house.database.read(
        lambda connection: [
            tuple(row)
            for row in connection.execute(
                "SELECT service, revision, requested, event FROM deployments ORDER BY number"
            )
        ]
    )


# --- runs and releases


async def test_a_green_run_is_on_the_disk_with_exactly_its_commit(careful: House) -> None:
    """R-RX-12, R-RX-22."""
    answer = await send(careful, "workflow_run", a_workflow_run())
    assert (answer.status, answer.json["decision"]) == (202, "deploy")
    assert [placed["service"] for placed in answer.json["deployments"]] == ["scraper"]
    assert await queued(careful) == [("scraper", SHA, SHA, "workflow_run")]
    assert careful.woken == ["scraper"]
    (delivery,) = (await careful.context.inbox.deliveries()).items
    assert (delivery.event, delivery.ref, delivery.revision) == ("workflow_run", "refs/heads/main", SHA)


async def test_a_published_release_is_on_the_disk_with_its_tag(careful: House) -> None:
    """R-RX-12: which commit that is, nobody knows before the fetch."""
    answer = await send(careful, "release", a_release({"target_commitish": OLD}))
    assert answer.status == 202
    assert await queued(careful) == [("scraper", None, "refs/tags/v1.2", "release")]
    (delivery,) = (await careful.context.inbox.deliveries()).items
    assert (delivery.event, delivery.ref, delivery.revision) == ("release", "refs/tags/v1.2", None)


async def test_a_push_wants_the_tip_whatever_it_is_then(house: House) -> None:
    """R-RX-23."""
    await house.deliver(PUSH)
    assert await queued(house) == [("scraper", SHA, None, "push")]


@pytest.mark.parametrize(
    ("event", "document", "reason"),
    [
        ("workflow_run", a_workflow_run({"conclusion": "failure"}), "run-not-green"),
        ("workflow_run", a_workflow_run({"conclusion": None}, action="requested"), "run-not-completed"),
        ("workflow_run", a_workflow_run({"head_repository": a_fork()}), "run-of-fork"),
        ("workflow_run", a_workflow_run({"head_repository": None}), "run-of-fork"),
        ("workflow_run", a_workflow_run({"event": "pull_request"}), "run-not-chosen"),
        ("workflow_run", a_workflow_run({"head_branch": "other"}), "other-branch"),
        ("workflow_run", a_workflow_run({"path": ".github/workflows/my-ci.yml"}), "other-workflow"),
        ("workflow_run", a_workflow_run(repository={"id": 1, "full_name": "me/other"}), "other-repository"),
        ("release", a_release(action="released"), "release-not-published"),
        ("release", a_release({"draft": True}), "release-draft"),
        ("release", a_release({"prerelease": True}), "prerelease-not-chosen"),
        ("push", json.loads(PUSH), "other-branch"),
    ],
)
async def test_what_does_not_deploy_is_200_and_says_what_was_missing(
    careful: House, event: str, document: dict[str, Any], reason: str
) -> None:
    """R-RX-16, R-RX-17, R-RX-22: of two services the one that came nearest is told, and GitHub's list stays green."""
    answer = await send(careful, event, document)
    assert (answer.status, answer.json["decision"], answer.json["reason"]) == (200, "ignored", reason)
    assert await queued(careful) == []
    await send(careful, "workflow_run", a_workflow_run())  # a batch is written, and what was noted with it
    noted = await careful.context.inbox.delivery(hashlib.sha256(json.dumps(document).encode()).hexdigest())
    assert noted is not None
    assert noted.reason == reason


@pytest.mark.parametrize("event", ["push", "ping", "release", "workflow_job", "deployment", "check_run"])
async def test_a_signed_run_under_another_events_name_is_refused(careful: House, event: str) -> None:
    """R-RX-15."""
    answer = await send(careful, event, a_workflow_run())
    assert (answer.status, answer.code) == (400, "body-invalid")
    assert await careful.count("deliveries") == 0


@pytest.mark.parametrize("event", ["push", "ping", "workflow_run", "create", "registry_package"])
async def test_a_signed_release_under_another_events_name_is_refused(careful: House, event: str) -> None:
    """R-RX-15."""
    answer = await send(careful, event, a_release())
    assert (answer.status, answer.code) == (400, "body-invalid")


@pytest.mark.parametrize(
    ("event", "document"), [("workflow_run", a_workflow_run()), ("release", a_release())]
)
async def test_a_redelivery_of_a_run_or_a_release_changes_nothing(
    careful: House, event: str, document: dict[str, Any]
) -> None:
    """R-RX-13."""
    first = await send(careful, event, document)
    again = await send(careful, event, document, X_GitHub_Delivery="another")
    assert (again.status, again.json["decision"]) == (200, "duplicate")
    assert again.json["deployments"] == first.json["deployments"]
    assert len(await queued(careful)) == 1


async def test_two_attempts_of_one_run_are_one_deployment_while_it_waits(careful: House) -> None:
    """R-RX-22: the second one says other bytes about the same commit."""
    first = await send(careful, "workflow_run", a_workflow_run())
    second = await send(careful, "workflow_run", a_workflow_run({"run_attempt": 2}))
    assert (second.status, second.json["deployments"]) == (202, first.json["deployments"])
    assert len(await queued(careful)) == 1


async def test_an_older_commit_that_turns_green_later_is_admitted(careful: House) -> None:
    """R-RX-22: attempt 2 of an old run; what is older is known after the fetch."""
    await send(careful, "workflow_run", a_workflow_run())
    late = await send(careful, "workflow_run", a_workflow_run({"run_attempt": 2, "head_sha": OLD}))
    assert late.status == 202
    assert [row[2] for row in await queued(careful)] == [SHA, OLD]


async def test_what_was_ignored_for_a_hold_is_admitted_as_it_was_asked_for(careful: House) -> None:
    """A run its commit, a release its tag: also after the resume."""
    for event, document in (("workflow_run", a_workflow_run()), ("release", a_release())):
        await careful.context.services.hold("scraper", actor="me", reason="")
        ignored = await send(careful, event, document)
        assert (ignored.status, ignored.json["reason"]) == (200, "held")
        resumed = await careful.post("/api/v1/services/scraper/resume")
        assert resumed.status == 200
    assert await queued(careful) == [
        ("scraper", SHA, SHA, "workflow_run"), ("scraper", None, "refs/tags/v1.2", "release"),
    ]  # fmt: skip


# --- forms


def form_of(document: bytes) -> bytes:
    return b"payload=" + quote_plus(document).encode()


def form_headers(form: bytes, **differences: Any) -> dict[str, str]:
    return headers_of(form, **({"Content_Type": "application/x-www-form-urlencoded"} | differences))


async def test_a_form_is_taken_as_its_document(house: House) -> None:
    """R-RX-11: signature and digest are those of the bytes that were sent."""
    form = form_of(PUSH)
    answer = await house.deliver(form, form_headers(form))
    assert (answer.status, answer.json["decision"]) == (202, "deploy")
    assert await queued(house) == [("scraper", SHA, None, "push")]
    (delivery,) = (await house.context.inbox.deliveries()).items
    assert delivery.digest == hashlib.sha256(form).hexdigest()
    again = await house.deliver(form, form_headers(form, X_GitHub_Delivery="another"))
    assert (again.status, again.json["decision"]) == (200, "duplicate")
    assert again.json["deployments"] == answer.json["deployments"]


async def test_runs_releases_and_pings_come_as_forms_too(careful: House) -> None:
    """R-RX-11."""
    ping = {"zen": "Design for failure.", "hook_id": 1, "hook": {}}
    for event, document, status in (
        ("workflow_run", a_workflow_run(), 202), ("release", a_release(), 202), ("ping", ping, 200),
    ):  # fmt: skip
        form = form_of(json.dumps(document).encode())
        assert (await careful.deliver(form, form_headers(form, X_GitHub_Event=event))).status == status


@pytest.mark.parametrize("kind", [
    "application/x-www-form-urlencoded; charset=utf-8", 'Application/X-WWW-Form-Urlencoded;charset="UTF-8"',
])  # fmt: skip
async def test_a_form_may_say_that_it_is_utf_8(house: House, kind: str) -> None:
    """R-RX-11."""
    form = form_of(PUSH)
    assert (await house.deliver(form, form_headers(form, Content_Type=kind))).status == 202


@pytest.mark.parametrize(
    ("form", "differences", "status"),
    [
        (form_of(PUSH), {"X_Hub_Signature_256": sign(PUSH)}, 401),
        (form_of(PUSH), {"X_Hub_Signature_256": sign(quote_plus(PUSH).encode())}, 401),
        (b"payload=" + quote(PUSH).encode(), {"X_Hub_Signature_256": sign(form_of(PUSH))}, 401),
        (form_of(PUSH), {"Content_Type": "application/x-www-form-urlencoded; charset=iso-8859-1"}, 415),
        (form_of(PUSH), {"Content_Type": "application/x-www-form-urlencoded; charset=utf-8; charset=x"}, 415),
        (form_of(PUSH), {"Content_Type": "multipart/form-data; boundary=x"}, 415),
        (form_of(PUSH), {"Content_Encoding": "gzip"}, 415),
        (form_of(PUSH), {"Content_Type": "application/json"}, 400),
        (PUSH, {}, 400),
        (form_of(PUSH) + b"&payload=%7B%7D", {}, 400),
        (b"payload=%7B%7D&" + form_of(PUSH), {}, 400),
        (form_of(PUSH) + b"&a=b", {}, 400),
        (b"a=b&" + form_of(PUSH), {}, 400),
        (form_of(PUSH) + b"&", {}, 400),
        (form_of(PUSH) + b";a=b", {}, 400),
        (form_of(PUSH) + b"%", {}, 400),
        (form_of(PUSH) + b"%zz", {}, 400),
        (form_of(PUSH) + b"\n", {}, 400),
        (form_of(form_of(PUSH)), {}, 400),
        (b"payload=%FF", {}, 400),
        (b"payload=", {}, 400),
        (b"", {}, 400),
        (form_of(PUSH), {"X_GitHub_Event": "ping"}, 400),
    ],
)
async def test_a_form_that_is_not_exactly_that_is_refused(
    house: House, form: bytes, differences: dict[str, Any], status: int
) -> None:
    """R-RX-10, R-RX-11: and nothing is stored."""
    answer = await house.deliver(form, form_headers(form, **differences))
    codes = {400: "body-invalid", 401: "signature-invalid", 415: "content-type"}
    assert (answer.status, answer.code) == (status, codes[status])
    assert await house.count("deliveries") == 0
    assert await house.count("deployments") == 0


async def test_no_form_is_looked_into_before_its_signature_is_good(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-RX-7, R-RX-11."""

    def explode(*args: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(github, "unwrap", explode)
    form = form_of(PUSH)
    assert (await house.deliver(form, form_headers(form, X_Hub_Signature_256=sign(PUSH)))).status == 401


async def test_a_large_form_is_taken(house: House) -> None:
    """R-RX-8, R-RX-11: more than a mebibyte goes through its turn and a thread."""
    form = form_of(a_body(commits=[{"message": '"' * 1_000_000}]))
    assert len(form) > 5_000_000
    assert (await house.deliver(form, form_headers(form))).status == 202
    assert house.context.intake.held == 0


# --- what fails after the deployment


@pytest.fixture
async def watched(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """A service that pushes deploy and that e2e.yml leads back; two revisions of it were live, OLD and then SHA."""
    services = {"scraper": a_service(source=SOURCE, rollback={"on_workflow": "e2e.yml"})}
    async for opened in open_house(tmp_path, database, some_settings(tmp_path, services=services)):
        for revision in (OLD, SHA):
            await went_live(opened, revision)
        opened.woken.clear()
        yield opened


async def went_live(house: House, revision: str) -> None:
    journal = house.context.journal
    await house.deliver(a_body(after=revision))
    deployment = await journal.claim("scraper", "c0ffee")
    assert deployment is not None
    for state in (State.BUILDING, State.BACKING_UP, State.SWITCHING, State.VERIFYING):
        deployment = await journal.advance(deployment, state, Change(revision=revision))
    live = Release(name=deployment.release or "", service="scraper", revision=revision)
    await journal.advance(deployment, State.SUCCEEDED, Change(live=live))


def a_failed_run(revision: str = SHA, **run: Any) -> dict[str, Any]:
    failed = {"conclusion": "failure", "path": ".github/workflows/e2e.yml", "head_sha": revision}
    return a_workflow_run(failed | run)


async def test_a_workflow_that_fails_for_what_is_live_is_on_the_disk_as_a_rollback(watched: House) -> None:
    answer = await send(watched, "workflow_run", a_failed_run())
    assert (answer.status, answer.json["decision"]) == (202, "deploy")
    (placed,) = answer.json["deployments"]
    made = await watched.context.journal.deployment(placed["id"])
    assert made is not None
    assert (made.state, made.target, made.revision) == (State.QUEUED, "", SHA)
    assert (made.reason, made.fault) == ("workflow-failed", Fault.COMMIT)
    assert watched.woken == ["scraper"]
    again = await send(watched, "workflow_run", a_failed_run())
    assert (again.status, again.json["decision"], again.json["deployments"]) == (200, "duplicate", [placed])
    second = await send(watched, "workflow_run", a_failed_run(run_attempt=2))
    assert second.json["deployments"] == [placed]


async def test_a_workflow_that_fails_otherwise_is_ignored_and_says_why(watched: House) -> None:
    told = {
        "not-live": a_failed_run(OLD),
        "run-not-failed": a_failed_run(conclusion="success"),
        "run-of-fork": a_failed_run(head_repository=a_fork()),
        "event-not-chosen": a_failed_run(path=".github/workflows/ci.yml"),
    }
    for reason, document in told.items():
        answer = await send(watched, "workflow_run", document)
        assert (answer.status, answer.json["decision"], answer.json["reason"]) == (200, "ignored", reason)
    await watched.post("/api/v1/services/scraper/hold")
    answer = await send(watched, "workflow_run", a_failed_run())
    assert (answer.status, answer.json["reason"]) == (200, "held")
    await watched.post("/api/v1/services/scraper/resume")
    assert (await watched.context.services.overview("scraper")).current is None
    answer = await send(watched, "workflow_run", a_failed_run())
    assert answer.status == 202, "ignored bytes do not block the same bytes later"


async def test_a_push_says_where_the_branch_was(house: House) -> None:
    """For a way back that must be built; forty zeros are no commit."""
    await house.deliver(a_body(before=OLD))
    await house.deliver(a_body(before="0" * 40, after="e" * 40))
    made = (await house.context.journal.deployments()).items
    assert [item.before for item in made] == [None, OLD]
