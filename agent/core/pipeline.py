"""The life of a deployment, as a table.

A state is committed before its step runs, and every step can be run twice; so a deployment that was cut off
goes on from the state that the journal names. `advance` is the way on, `recover` is the way back in. Both are
pure: the deployer does what they say.

The README's diagram is `diagram()`; a test keeps the two alike.
"""

from enum import StrEnum

from agent.core.model import Deployment, Fault, State


class Outcome(StrEnum):
    """How a step ended."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """A newer request took its place."""
    ALREADY_LIVE = "already_live"
    """The revision turned out to be the one that serves."""
    GO_BACK = "go_back"
    """It is a rollback: it neither fetches nor builds."""
    GONE_BACK = "gone_back"
    """A person wanted to go back, and what they wanted serves."""
    NO_FALLBACK = "no_fallback"
    """There is nothing that could be gone back to."""
    MIGRATE_FAILED = "migrate_failed"
    """The data could not be migrated; nothing was switched."""


S, Out = State, Outcome

TABLE: dict[State, dict[Outcome, State]] = {
    S.QUEUED: {
        Out.OK: S.FETCHING,
        Out.FAILED: S.FAILED,
        Out.CANCELLED: S.SUPERSEDED,
        Out.GO_BACK: S.ROLLING_BACK,
    },
    S.FETCHING: {
        Out.OK: S.BUILDING,
        Out.FAILED: S.FAILED,
        Out.CANCELLED: S.SUPERSEDED,
        Out.ALREADY_LIVE: S.SUCCEEDED,
    },
    S.BUILDING: {Out.OK: S.BACKING_UP, Out.FAILED: S.FAILED, Out.CANCELLED: S.SUPERSEDED},
    S.BACKING_UP: {Out.OK: S.SWITCHING, Out.FAILED: S.FAILED, Out.CANCELLED: S.SUPERSEDED},
    S.SWITCHING: {Out.OK: S.VERIFYING, Out.FAILED: S.ROLLING_BACK, Out.MIGRATE_FAILED: S.FAILED},
    S.VERIFYING: {Out.OK: S.SUCCEEDED, Out.FAILED: S.ROLLING_BACK},
    S.ROLLING_BACK: {
        Out.OK: S.ROLLED_BACK,
        Out.FAILED: S.BROKEN,
        Out.NO_FALLBACK: S.FAILED,
        Out.GONE_BACK: S.SUCCEEDED,
    },
}

ENDS = frozenset(State) - frozenset(TABLE)
"""States that nothing leaves."""

BEFORE_SWITCH = frozenset({S.QUEUED, S.FETCHING, S.BUILDING, S.BACKING_UP})
"""In these the old release never stopped: a failure costs nothing."""

MAX_INTERRUPTIONS_BEFORE_SWITCH = 3
MAX_INTERRUPTIONS_AFTER_SWITCH = 2


def advance(state: State, outcome: Outcome) -> State:
    """The next state. Raises ValueError for what the table does not have: a defect, not an outcome."""
    try:
        return TABLE[state][outcome]
    except KeyError:
        raise ValueError(f"the pipeline has no way out of {state} by {outcome}") from None


def recover(state: State, interruptions: int) -> Outcome | None:
    """What to do at start with a deployment that was cut off in `state`, `interruptions` counting this one.

    None: run the step of the same state again (each step looks for itself what is already done). Otherwise
    the outcome to go on with. Going back is always finished, however often it is cut off.
    """
    if state in BEFORE_SWITCH:
        return Outcome.FAILED if interruptions >= MAX_INTERRUPTIONS_BEFORE_SWITCH else None
    if state in (S.SWITCHING, S.VERIFYING):
        return Outcome.FAILED if interruptions >= MAX_INTERRUPTIONS_AFTER_SWITCH else None
    if state is S.ROLLING_BACK:
        return None
    raise ValueError(f"a deployment that is {state} has ended")


def quarantines(state: State, fault: Fault | None) -> bool:
    """Whether a deployment that ended in `state` through `fault` keeps its revision from coming again."""
    return fault is Fault.COMMIT and state in (S.FAILED, S.ROLLED_BACK, S.BROKEN)


def untouched(deployment: Deployment) -> bool:
    """Whether what was live when it began still serves, so that after a reboot it is started first."""
    unaimed = deployment.target is not None and deployment.release is None
    return deployment.state in BEFORE_SWITCH or (deployment.state is S.ROLLING_BACK and unaimed)


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    for state, ways in TABLE.items():
        lines += [
            f"    {state} --> {target}: {outcome.replace('_', ' ')}" for outcome, target in ways.items()
        ]
    lines += [f"    {state} --> [*]" for state in State if state in ENDS]
    return "\n".join(lines)
