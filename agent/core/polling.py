"""What a poll comes to, and when the next one is due. Pure: `services.poller` asks git and the journal.

A poll looks for commits whose delivery was lost. What was answered before, by whatever trigger, it leaves alone: after
a rollback, a hold or a person's choice a hundred polls change nothing (R-RB-2).
"""

from collections.abc import Sequence

from msgspec import Struct

from agent.core.model import Deployment, State

JITTER = 0.1
"""Each pause is this part longer or shorter, so that many agents do not ask at the same second."""
LONGEST_INTERVALS = 8
LONGEST_SECONDS = 3600.0
ATTEMPTS = 3
"""So often a tip that fails for reasons outside of the commit is tried again by polls (R-RB-6)."""


class Known(Struct, frozen=True, kw_only=True):
    """What the journal knows of a service and of the tip that a poll found."""

    live: str | None
    held: bool = False
    quarantined: bool = False
    """The tip, with the configuration of now."""
    coming: bool = False
    """The tip, or whatever the tip will be then, is queued or running."""
    chosen: bool = False
    """What was deployed last was asked for by name by a person."""
    ended: Sequence[Deployment] = ()
    """Ended deployments of the tip with the configuration of now, newest first."""


def reason_against(tip: str, known: Known) -> str:  # noqa: PLR0911 - one reason after the other
    """Why a poll deploys nothing, as a sentence for the status; "" if the tip is to be queued."""
    if known.live == tip:
        return "the tip is live"
    if known.coming:
        return "the tip is on its way"
    if known.held:
        return "held: a person has to resume the service"
    if known.quarantined:
        return (
            "the tip is quarantined: it failed before with this configuration, or a person went back from it"
        )
    failures = 0
    for deployment in known.ended:
        if deployment.state is State.SUPERSEDED:
            if deployment.reason in ("skip-deploy", "paths-unchanged"):
                return f"the tip was passed over: {deployment.reason}"
        elif deployment.state is State.SUCCEEDED:
            if known.chosen:
                return "the tip was deployed before, and a person chose what is live now"
            break  # the branch was reset to it
        else:
            failures += 1
    return f"the tip failed {failures} times, see its deployments" if failures >= ATTEMPTS else ""


def pause(interval: float, failures: int, chance: float, wanted: float = 0.0) -> float:
    """Seconds until the next poll, after so many failures in a row. `chance` is a random number from 0 to 1; `wanted`
    seconds are what the remote asks to be left alone (F44): at most an hour is believed."""
    longest = max(interval, min(LONGEST_INTERVALS * interval, LONGEST_SECONDS))
    seconds = min(interval * (1 << min(failures, 10)), longest)
    return max(seconds * (1 + JITTER * (2 * chance - 1)), min(wanted, LONGEST_SECONDS))
