"""What deploys and what does not, as its user sees it: green runs, releases, forms, and addresses in payloads."""

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.github import a_fork, a_release, a_repository, a_workflow_run
from tests.world import Answer, Home, wait_for

pytestmark = pytest.mark.outside

OURS = a_repository(full_name="me/app", name="app")


@pytest.fixture
def careful(make_home: Callable[..., Home]) -> Home:
    """A running agent whose service is deployed by green runs of ci.yml and by releases, not by pushes."""
    deploy = {"on": ["workflow_run", "release"], "workflow": "ci.yml", "shared": ["data"]}
    home = make_home("app", deploy=deploy)
    home.start()
    return home


def a_run_of(revision: str, **run: Any) -> dict[str, Any]:
    """A green run on a commit of ours."""
    return a_workflow_run({"head_sha": revision, "head_repository": OURS} | run, repository=OURS)


def send(home: Home, event: str, document: dict[str, Any]) -> Answer:
    return home.deliver("", body=json.dumps(document).encode(), event=event)


def ended(home: Home, answer: Answer) -> dict[str, Any]:
    assert answer.status == 202, answer
    return home.ended(answer.document["deployments"][0]["id"])


def test_a_green_run_deploys_exactly_its_commit_although_the_branch_is_further(careful: Home) -> None:
    """R-RX-22, R-RX-23."""
    tested = careful.remotes["app"].commit("one")
    untested = careful.remotes["app"].commit("two", "crash")
    done = ended(careful, send(careful, "workflow_run", a_run_of(tested)))
    assert (done["state"], done["revision"], done["trigger"]["event"]) == (
        "succeeded",
        tested,
        "workflow_run",
    )
    service = careful.service()
    assert service is not None
    assert (service["version"], service["revision"]) == ("one", tested)
    pushed = careful.deliver(untested)
    assert (pushed.status, pushed.document["reason"]) == (200, "event-not-chosen")
    third = careful.remotes["app"].commit("three")
    assert ended(careful, send(careful, "workflow_run", a_run_of(third)))["state"] == "succeeded"
    assert careful.starts() == ["one", "three"]


def test_a_run_that_does_not_count_does_nothing_and_says_why(careful: Home) -> None:
    """R-RX-22."""
    revision = careful.remotes["app"].commit("one")
    told = {
        "run-not-green": a_run_of(revision, conclusion="failure"),
        "run-of-fork": a_run_of(revision, head_repository=a_fork()),
        "run-not-chosen": a_run_of(revision, event="pull_request"),
        "other-workflow": a_run_of(revision, path=".github/workflows/my-ci.yml"),
        "other-branch": a_run_of(revision, head_branch="main2"),
        "run-not-completed": a_run_of(revision, conclusion=None) | {"action": "in_progress"},
    }
    for reason, document in told.items():
        answer = send(careful, "workflow_run", document)
        assert (answer.status, answer.document["decision"], answer.document["reason"]) == (
            200,
            "ignored",
            reason,
        )
    assert careful.get("/api/v1/deployments").document["items"] == []
    assert careful.service() is None

    def listed() -> bool:
        items = careful.get("/api/v1/deliveries").document["items"]
        return {item["reason"] for item in items} == set(told)

    wait_for("the ignored deliveries to be listed", listed)


def test_a_published_release_deploys_its_tag(careful: Home) -> None:
    """Whatever its target is called, and although the branch is further."""
    remote = careful.remotes["app"]
    first = remote.commit("one")
    remote.tag("v1", first)
    tip = remote.commit("two", "crash")
    release = {"tag_name": "v1", "target_commitish": tip}
    early = send(careful, "release", a_release(release | {"prerelease": True}, repository=OURS))
    assert (early.status, early.document["reason"]) == (200, "prerelease-not-chosen")
    done = ended(careful, send(careful, "release", a_release(release, repository=OURS)))
    assert (done["state"], done["revision"], done["trigger"]["event"]) == ("succeeded", first, "release")
    service = careful.service()
    assert service is not None
    assert (service["version"], service["revision"]) == ("one", first)


def test_what_does_not_lie_on_the_branch_is_refused(careful: Home) -> None:
    """R-RX-21: whatever a signed delivery says about it."""
    remote = careful.remotes["app"]
    good = remote.commit("one")
    aside = remote.commit_aside("evil", "aside")
    assert ended(careful, send(careful, "workflow_run", a_run_of(good)))["state"] == "succeeded"
    unknown = ended(careful, send(careful, "workflow_run", a_run_of(aside)))
    assert (unknown["state"], unknown["reason"]) == ("failed", "revision-unknown"), (
        "only the branch is fetched"
    )
    remote.tag("v666", aside)
    tagged = ended(careful, send(careful, "release", a_release({"tag_name": "v666"}, repository=OURS)))
    assert (tagged["state"], tagged["reason"]) == ("failed", "not-on-branch")
    again = ended(careful, send(careful, "workflow_run", a_run_of(aside, run_attempt=2)))
    assert (again["state"], again["reason"]) == ("failed", "not-on-branch")
    missing = ended(careful, send(careful, "release", a_release({"tag_name": "main"}, repository=OURS)))
    assert (missing["state"], missing["reason"]) == ("failed", "revision-unknown"), "a branch is no tag"
    for refused in (unknown, tagged, again, missing):
        assert refused["hint"]
    assert careful.starts() == ["one"]


def test_a_power_cut_after_the_202_loses_neither_the_commit_nor_the_tag(careful: Home) -> None:
    """R-RX-12: what was asked for exactly is what is deployed after the restart."""
    remote = careful.remotes["app"]
    tested = remote.commit("one")
    released = remote.commit("two")
    remote.tag("v2", released)
    remote.commit("three", "crash")
    for event, document, revision in (
        ("workflow_run", a_run_of(tested), tested),
        ("release", a_release({"tag_name": "v2"}, repository=OURS), released),
    ):
        answer = send(careful, event, document)
        careful.kill()
        careful.start()
        done = ended(careful, answer)
        assert (done["state"], done["revision"]) == ("succeeded", revision)


def test_a_redelivery_after_the_branch_was_gone_deploys_the_same_commit(careful: Home) -> None:
    """R-RX-13, R-RX-22: and not the tip that the branch has by then."""
    remote = careful.remotes["app"]
    tested = remote.commit("one")
    remote._git("--git-dir", str(remote.path), "update-ref", "-d", "refs/heads/main")
    document = a_run_of(tested)
    failed = ended(careful, send(careful, "workflow_run", document))
    assert (failed["state"], failed["reason"]) == ("failed", "branch-missing")
    remote.commit("two", "crash")
    done = ended(careful, send(careful, "workflow_run", document))
    assert (done["state"], done["revision"]) == ("succeeded", tested)
    duplicate = send(careful, "workflow_run", document)
    assert (duplicate.status, duplicate.document["decision"]) == (200, "duplicate")


def test_a_push_in_a_form_deploys(home: Home) -> None:
    """R-RX-11."""
    revision = home.remotes["app"].commit("one")
    form = urlencode({"payload": home.push_body(revision).decode()}).encode()
    kind = "application/x-www-form-urlencoded"
    answer = home.deliver("", body=form, Content_Type=kind)
    assert ended(home, answer)["state"] == "succeeded"
    found = home.get(f"/api/v1/deliveries/{hashlib.sha256(form).hexdigest()}")
    assert found.document["revision"] == revision
    again = home.deliver("", body=form, Content_Type=kind)
    assert (again.status, again.document["decision"]) == (200, "duplicate")
    for wrong in (form + b"&a=b", form + b"&" + form, form + b"%", b"a=b"):
        refused = home.deliver("", body=wrong, Content_Type=kind)
        assert (refused.status, refused.document["code"]) == (400, "body-invalid")
    charset = home.deliver("", body=form, Content_Type=f"{kind}; charset=latin-1")
    assert (charset.status, charset.document["code"]) == (415, "content-type")


@contextmanager
def a_listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port on which every connection is recorded, with the first bytes that it brought."""
    met: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(1)
                    met.append(connection.recv(64))

        thread = Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1], met
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _redirected(value: Any, port: int) -> Any:
    """The document with another address in every place where it holds one."""
    if isinstance(value, dict):
        return {
            key: f"http://127.0.0.1:{port}/{key}" if key.endswith("url") else _redirected(item, port)
            for key, item in value.items()
        }
    return value


def test_no_address_in_a_payload_is_ever_connected_to(make_home: Callable[..., Home]) -> None:
    """R-RX-20: signed deliveries that name another remote, branch or commit's origin in every place there is."""
    on = {"on": ["push", "workflow_run", "release"], "workflow": "ci.yml", "shared": ["data"]}
    home = make_home("app", deploy=on)
    home.start()
    remote = home.remotes["app"]
    with a_listener() as (port, met):
        with closing(socket.create_connection(("127.0.0.1", port))) as probe:
            probe.sendall(b"it records")
        wait_for("the listener", lambda: met == [b"it records"])
        elsewhere = {
            name: f"{scheme}://127.0.0.1:{port}/evil.git"
            for name, scheme in (("clone_url", "http"), ("git_url", "git"), ("ssh_url", "ssh"), ("svn_url", "https"),
                                 ("mirror_url", "https"), ("archive_url", "http"), ("url", "http"))
        }  # fmt: skip
        ours = OURS | elsewhere | {"default_branch": "evil", "master_branch": "evil"}
        for version, event in (("one", "push"), ("two", "workflow_run"), ("three", "release")):
            revision = remote.commit(version)
            remote.tag(version, revision)
            document = {
                "push": json.loads(home.push_body(revision))
                | {"base_ref": "refs/heads/evil", "compare": elsewhere["url"], "head_commit": elsewhere},
                "workflow_run": _redirected(a_run_of(revision), port),
                "release": _redirected(a_release({"tag_name": version, "target_commitish": "evil"}), port),
            }[event] | {"repository": ours}  # fmt: skip
            done = ended(home, send(home, event, document))
            assert (done["state"], done["revision"]) == ("succeeded", revision)
        assert met == [b"it records"]
    assert home.starts() == ["one", "two", "three"]
