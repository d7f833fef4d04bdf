"""What the steps of a deployment share: how one ended, and a release on its way to being one."""

from dataclasses import dataclass, field
from typing import Protocol

from agent.core.errors import StepFailed
from agent.core.model import Backup, Deployment, Release
from agent.core.pipeline import Outcome
from agent.core.text import clean
from agent.store.transitions import Change


class Saves(Protocol):
    """What a deployment needs of its service's data: `services.restore` answers it."""

    async def create_locked(
        self, service: str, *, deployment: str | None = None, revision: str | None = None
    ) -> Backup:
        """A verified backup, while the caller holds the service's lock. Raises StepFailed."""

    async def restore_locked(self, deployment: Deployment) -> str:
        """On the way back from a deployment that began its migration, before the old release starts: brings back the
        data if the configuration says so; the service is stopped then. Returns a sentence about it, also if that was
        not possible. Can be run twice."""


@dataclass(frozen=True)
class Ended:
    """How a step ended, and what the next state's row must hold."""

    outcome: Outcome
    change: Change = field(default_factory=Change)


def release_of(deployment: Deployment) -> Release:
    """The release that a deployment builds and switches to."""
    assert deployment.release is not None, "a release is named on the way into building"
    assert deployment.revision is not None, "a revision is known on the way into building"
    return Release(
        name=deployment.release,
        service=deployment.service,
        revision=deployment.revision,
        config_hash=deployment.config_hash,
    )


def ended_by(failure: StepFailed, outcome: Outcome = Outcome.FAILED) -> Ended:
    """How a step ended that failed: what is told of it, and whose fault it is."""
    change = Change(
        reason=failure.code,
        hint=failure.hint,
        fault=failure.fault,
        detail=clean(failure.message, 500),
        output=failure.output,
    )
    return Ended(outcome, change)


def hint_of(code: str) -> str:
    """What a person can do about it."""
    return StepFailed(code, "").hint
