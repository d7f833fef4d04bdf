"""The guard against loops: what may be admitted, when a service is held, where to go back to.

Pure: the journal hands in what it read inside its transaction and writes what comes back in the same one.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from agent.core.model import Deployment, Fault, Release, State

WINDOW = timedelta(hours=1)
"""`rollback.max_per_hour` counts within it."""


class Standing(Struct, frozen=True, kw_only=True):
    """What the journal knows of a service when a revision asks for admission."""

    held: bool
    quarantined: bool
    """This very revision with this very configuration."""
    open: tuple[Deployment, ...]
    """Deployments of this very revision, or asked for by the same name, that have not ended, oldest first; for the
    branch's tip, those that a person asked for and that have not begun."""


class Admit(Struct, frozen=True):
    """A new deployment."""


class Join(Struct, frozen=True):
    """This deployment does the same already."""

    deployment: str


class Ignore(Struct, frozen=True):
    """Nothing is to be done; `reason` is a code of `core.codes`."""

    reason: str


def admit(
    standing: Standing, revision: str | None, *, force: bool, requested: str | None = None
) -> Admit | Join | Ignore:
    """Whether a wish becomes a deployment: for `revision`, or (null) for what `requested` will turn out to name, or
    (both null) for the branch's tip. `force` is a person's.

    What a name means is only known to be the same for a deployment that has not looked it up yet."""
    if not force:
        if standing.held:
            return Ignore("held")
        if standing.quarantined:
            return Ignore("quarantined")
    for deployment in reversed(standing.open):
        same = _wants(deployment, revision, requested, force=force)
        going_on = deployment.state is not State.ROLLING_BACK
        if same and going_on and (deployment.force or not force):
            return Join(deployment.id)
    return Admit()


def _wants(deployment: Deployment, revision: str | None, requested: str | None, *, force: bool) -> bool:
    if revision is not None:
        return deployment.revision == revision
    if requested is None:  # the tip, as it will be when that one begins
        waits = deployment.person and deployment.state is State.QUEUED
        return waits and deployment.requested is None and deployment.force is force
    return deployment.requested == requested and deployment.state is State.QUEUED


def holds(bounced: Sequence[datetime], now: datetime, limit: int) -> bool:
    """Whether the service is to be held: `bounced` are the ends of the automatic rollbacks since the last resume,
    the newest included.

    Those within WINDOW before `now` count; ends in the future (the clock was set back) count too, because ignoring
    them would open the loop again. Where something later is known, `dated` has put them before it.
    """
    return sum(end > now - WINDOW for end in bounced) >= limit


def dated(end: datetime, after: datetime | None, now: datetime) -> datetime:
    """When an automatic rollback ended at the latest: its own record, unless that was made by a clock that ran ahead.
    `after` is what the clock of now said when the first deployment behind it was asked for."""
    return end if end <= now or after is None else after


def retreat(revision: str | None, *, live: str | None, held: bool, ways: Sequence[Release]) -> Admit | Ignore:
    """Whether a workflow that failed for `revision` leads back: from what is live only, and if there is a way."""
    if revision is None or revision != live:
        return Ignore("not-live")
    if held:
        return Ignore("held")
    return Admit() if ways else Ignore("no-fallback")


def confirmed(releases: Sequence[Release], left: str | None) -> list[Release]:
    """The releases that proved themselves, the last confirmed first, without the one to leave."""
    proven = [release for release in releases if release.confirmed_at is not None and release.name != left]
    return sorted(proven, key=lambda release: release.confirmation, reverse=True)


def fallbacks(
    releases: Sequence[Release], left: str | None, *, live: str | None = None, unlike: str | None = None
) -> list[Release]:
    """Where to go back to, best first: confirmed releases whose revision is not in quarantine.

    `live` served until a moment ago, and is taken as it is. `unlike` is a revision that is to be left as such.
    """
    return [
        release
        for release in confirmed(releases, left)
        if (not release.quarantined or release.name == live) and release.revision != unlike
    ]


def redeploys(deployment: Deployment) -> bool:
    """Whether a redelivery of what led to this deployment queues it again: it failed before anything was switched (a
    migration may have been tried) for a reason outside of the commit."""
    switched = any(step.name is State.ROLLING_BACK for step in deployment.steps)
    own_fault = deployment.fault is Fault.COMMIT
    return deployment.state is State.FAILED and not own_fault and not switched and deployment.target is None
