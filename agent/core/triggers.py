"""What a delivery leads to: each configured service wants its revision, or says why not. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from agent.core.payload import Payload, is_zero
from agent.core.settings import Service, Source


class Deploy(Struct, frozen=True):
    """This service wants the revision; None: whichever `requested` names, once it was fetched.

    `requested` is exactly what is deployed, a commit or a ref; None: the branch's tip when it runs (R-RX-23).
    """

    service: str
    revision: str | None
    requested: str | None = None
    before: str | None = None
    """The commit that the branch named before a push."""


class GoBack(Struct, frozen=True):
    """A workflow found a fault in the revision: this service leaves it, if it is what is live."""

    service: str
    revision: str


class Ignore(Struct, frozen=True):
    """This service has nothing to do; `reason` is a code of `core.codes`."""

    service: str
    reason: str


_NEAREST = (
    "event-ignored",
    "other-repository",
    "event-not-chosen",
    "tag-push",
    "other-workflow",
    "run-of-fork",
    "run-not-chosen",
    "other-branch",
    "ref-deleted",
    "run-not-completed",
    "run-not-failed",
    "run-not-green",
    "release-not-published",
    "release-draft",
    "prerelease-not-chosen",
)
"""Reasons for doing nothing, the one that came nearest to a deployment last."""


def decide(payload: Payload, services: Mapping[str, Service]) -> list[Deploy | GoBack | Ignore]:
    """What each configured service does with a delivery. Several may want the same one."""
    return [_decide(payload, name, service) for name, service in services.items()]


def why(decisions: Sequence[Deploy | GoBack | Ignore]) -> str:
    """One reason for a delivery that no service wanted: that of the service that it came nearest to."""
    reasons = {decision.reason for decision in decisions if isinstance(decision, Ignore)}
    return max(reasons, key=_NEAREST.index, default="event-ignored")


def _decide(payload: Payload, name: str, service: Service) -> Deploy | GoBack | Ignore:
    judge = _JUDGES.get(payload.event)
    if judge is None:
        return Ignore(name, "event-ignored")
    if not is_from(payload, service.source):
        return Ignore(name, "other-repository")
    back = _after_deployment(payload, name, service)
    if isinstance(back, GoBack):
        return back
    if payload.event not in service.deploy.on:
        return back or Ignore(name, "event-not-chosen")
    return judge(payload, name, service)


def is_from(payload: Payload, source: Source) -> bool:
    """Whether it is a delivery of this source's repository. GitHub's names know no upper and lower case."""
    repository = repository_of(source)
    return repository is not None and repository.lower() == payload.repository.lower()


def _push(payload: Payload, name: str, service: Service) -> Deploy | Ignore:
    """The branch's tip, whatever the push says that it is."""
    if payload.ref != f"refs/heads/{service.source.branch}":
        return Ignore(name, "tag-push" if payload.ref.startswith("refs/tags/") else "other-branch")
    if payload.revision is None:
        return Ignore(name, "ref-deleted")
    before = payload.before if payload.before is not None and not is_zero(payload.before) else None
    return Deploy(name, payload.revision, before=before)


def _workflow_run(payload: Payload, name: str, service: Service) -> Deploy | Ignore:
    """Exactly the commit of a green run of the configured workflow, for a push to the branch itself (R-RX-22)."""
    run, deploy = payload.run, service.deploy
    assert run is not None, "core.payload reads it"
    clauses = {
        "other-workflow": deploy.workflow is not None and run.is_of(deploy.workflow),
        "run-of-fork": run.own,
        "run-not-chosen": run.event in deploy.workflow_events,
        "other-branch": run.branch == service.source.branch,
        "run-not-completed": run.action == "completed",
        "run-not-green": run.conclusion == "success",
    }
    for reason, holds in clauses.items():
        if not holds:
            return Ignore(name, reason)
    return Deploy(name, run.revision, requested=run.revision)


def _after_deployment(payload: Payload, name: str, service: Service) -> GoBack | Ignore | None:
    """What a run of `rollback.on_workflow` says about what was deployed. None: it is no run of it.

    Whatever made it run counts, except a pull request: that one tests what is not deployed."""
    run, watched = payload.run, service.rollback.on_workflow
    if run is None or watched is None or not run.is_of(watched):
        return None
    clauses = {
        "run-of-fork": run.own,
        "run-not-chosen": run.event not in _PULLS,
        "other-branch": run.branch == service.source.branch,
        "run-not-completed": run.action == "completed",
        "run-not-failed": run.conclusion in _FAILED,
    }
    for reason, holds in clauses.items():
        if not holds:
            return Ignore(name, reason)
    return GoBack(name, run.revision)


def _release(payload: Payload, name: str, service: Service) -> Deploy | Ignore:
    """The commit of a published release's tag; which one that is, the fetch will tell."""
    release = payload.release
    assert release is not None, "core.payload reads it"
    if release.action != "published":
        return Ignore(name, "release-not-published")
    if release.draft:
        return Ignore(name, "release-draft")
    if release.prerelease and not service.deploy.prereleases:
        return Ignore(name, "prerelease-not-chosen")
    return Deploy(name, None, requested=f"refs/tags/{release.tag}")


_JUDGES: dict[str, Callable[[Payload, str, Service], Deploy | Ignore]] = {
    "push": _push,
    "workflow_run": _workflow_run,
    "release": _release,
}


_PULLS = ("pull_request", "pull_request_target", "merge_group")
_FAILED = ("failure", "timed_out")
"""What GitHub says of a run that found a fault; one that was cancelled or never began found none."""

_SCP = re.compile(r"\A(?:[^/@:]+@)?[^/:]{2,}:(?!//)(?P<path>.+)\Z")
"""git's short form of an ssh address: `git@github.com:me/scraper.git`."""


def repository_of(source: Source) -> str | None:
    """`owner/name`, as configured or read off the address; None for a path and for what has another form."""
    if source.github:
        return source.github
    short = _SCP.match(source.repository)
    try:
        path = short["path"] if short else urlsplit(source.repository).path
    except ValueError:
        return None
    if not short and "://" not in source.repository:
        return None
    parts = path.strip("/").removesuffix(".git").split("/")
    return "/".join(parts) if len(parts) == 2 and all(parts) else None
