"""What a delivery says: a document of GitHub's becomes a `Payload`. Pure.

The name of the event stands in a header that is not signed, so the shape of the body must fit it (R-RX-15). What
a payload says is a hint (R-RX-20): it chooses among the configured services and tells which revision to expect.
Repository, branch and path always come from the configuration.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.core import github
from agent.core.refs import is_name
from agent.core.text import clean

_HASH = re.compile(r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_EVENT = re.compile(r"\A[a-z][a-z0-9_]{0,63}\Z")

WORKFLOWS = ".github/workflows/"
"""Where GitHub looks for workflows."""


class WorkflowRun(Struct, frozen=True, kw_only=True):
    """One run of a workflow, as it was sent."""

    action: str
    """What happened to it: requested, in_progress or completed."""
    conclusion: str
    """How it ended; "" before its end."""
    event: str
    """What made it run: push, pull_request, schedule ..."""
    revision: str
    """The commit that it ran on."""
    branch: str
    own: bool
    """Whether that commit was pushed to the repository itself; False for a fork, also for one that is gone."""
    path: str
    """The workflow's file; a ref may follow it, after an `@`."""
    name: str
    """The workflow's name."""

    def is_of(self, workflow: str) -> bool:
        """Whether it is a run of this workflow: its file below .github/workflows, or its name."""
        if is_file(workflow):
            path = WORKFLOWS + workflow
            return self.path == path or self.path.startswith(path + "@")
        return self.name == workflow


def is_file(workflow: str) -> bool:
    """Whether the configuration names a workflow by its file. A file is never taken for a name: everybody who can
    add a workflow can choose its name."""
    return workflow.endswith((".yml", ".yaml"))


class Release(Struct, frozen=True, kw_only=True):
    """A release on GitHub, as it was sent. (On the disk, a release is something else: `core.model`.)"""

    action: str
    tag: str
    draft: bool
    prerelease: bool


class Payload(Struct, frozen=True, kw_only=True):
    """What counts of a delivery, as it was sent: clean it before it is stored or shown.

    `repository` is `owner/name`, or "" where the event has none; `before` and `after` are hex or None. `run` is
    there in a workflow_run event, `release` in a release event.
    """

    event: str
    guid: str
    repository: str = ""
    ref: str = ""
    before: str | None = None
    after: str | None = None
    deleted: bool = False
    sender: str = ""
    run: WorkflowRun | None = None
    release: Release | None = None

    @property
    def revision(self) -> str | None:
        """The commit that it is about; None where there is none, or where the payload does not tell."""
        if self.run is not None:
            return self.run.revision
        return None if self.deleted or self.after is None or is_zero(self.after) else self.after


def is_zero(revision: str) -> bool:
    """Forty (or 64) zeros stand for "no commit" in a push."""
    return not revision.strip("0")


def read(event: str, guid: str, body: github.Body) -> Payload:
    """Reads an authenticated document. Raises Refused(400, body-invalid) if it is not what the header says."""
    if not _EVENT.match(event):
        github.refuse("the X-GitHub-Event header is missing or is no event's name")
    document = github.parse(body)
    shapes = {name for name, fits in _SHAPES.items() if fits(document)}
    if event in _SHAPES:
        shapes ^= {event}  # what is left is either foreign, or missing
    if shapes:
        github.refuse(f"the body is not that of a {event} event")
    payload = Payload(
        event=event,
        guid=clean(guid, 128),
        repository=_text(_object(document, "repository"), "full_name"),
        sender=_text(_object(document, "sender"), "login"),
    )
    reader = _READERS.get(event)
    if reader is None:
        return payload
    if not payload.repository:
        github.refuse(f"the {event} does not name its repository")
    return reader(payload, document)


# --- telling events apart


def _is_push(document: Mapping[str, Any]) -> bool:
    return {"ref", "before", "after"} <= document.keys() and "action" not in document


def _is_ping(document: Mapping[str, Any]) -> bool:
    return {"zen", "hook_id"} <= document.keys()


def _is_workflow_run(document: Mapping[str, Any]) -> bool:
    # Deployments and their reviews name the run that made them: they are no workflow_run events.
    others = {"deployment", "deployment_status", "workflow_job_run", "workflow_job_runs"}
    run = isinstance(document.get("workflow_run"), dict)
    return run and "action" in document and not others & document.keys()


def _is_release(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("release"), dict) and "action" in document


_SHAPES = {"push": _is_push, "ping": _is_ping, "workflow_run": _is_workflow_run, "release": _is_release}
"""How the bodies of the events that matter are told apart; each fits at most its own event (R-RX-15)."""


# --- the events that matter


def _push(payload: Payload, document: Mapping[str, Any]) -> Payload:
    ref, before, after = document["ref"], document["before"], document["after"]
    deleted = document.get("deleted", False)
    hashes = _is_hash(before) and _is_hash(after)
    if not (isinstance(ref, str) and ref and hashes and isinstance(deleted, bool)):
        github.refuse("the push does not name its ref and commits as GitHub does")
    return replace(payload, ref=ref, before=before, after=after, deleted=deleted)


def _workflow_run(payload: Payload, document: Mapping[str, Any]) -> Payload:
    sent, workflow = document["workflow_run"], _object(document, "workflow")
    revision, branch = sent.get("head_sha"), _text(sent, "head_branch")
    if not _is_hash(revision) or is_zero(revision):
        github.refuse("the workflow_run does not name its commit as GitHub does")
    run = WorkflowRun(
        action=_text(document, "action"),
        conclusion=_text(sent, "conclusion"),
        event=_text(sent, "event"),
        revision=revision,
        branch=branch,
        own=_is_own(_object(sent, "head_repository"), _object(document, "repository")),
        path=_text(sent, "path") or _text(workflow, "path"),
        name=_text(workflow, "name") or _text(sent, "name"),
    )
    return replace(payload, run=run, ref=f"refs/heads/{branch}" if branch else "")


def _is_own(head: Mapping[str, Any], repository: Mapping[str, Any]) -> bool:
    """By the number, which nobody can choose. A fork that was deleted is null, and so is nobody's."""
    number = head.get("id")
    return type(number) is int and number == repository.get("id")


def _release(payload: Payload, document: Mapping[str, Any]) -> Payload:
    sent = document["release"]
    draft, prerelease = sent.get("draft", False), sent.get("prerelease", False)
    tag = _text(sent, "tag_name")
    if not (is_name(tag) and isinstance(draft, bool) and isinstance(prerelease, bool)):
        github.refuse("the release does not name its tag as GitHub does")
    release = Release(action=_text(document, "action"), tag=tag, draft=draft, prerelease=prerelease)
    return replace(payload, release=release, ref=f"refs/tags/{tag}")


_READERS = {"push": _push, "workflow_run": _workflow_run, "release": _release}


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.match(value) is not None


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""
