"""How long a service gave no answer while it was switched, made of many small questions. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.model import Outage

FINE, COARSE = 0.05, 0.5
"""Seconds between two questions: as long as something may happen, and once all is quiet."""
QUIET = 40
"""Good answers in a row that are quiet."""


@dataclass(frozen=True)
class Asked:
    """One question: sent and done are monotonic seconds; `answered`: whether it was."""

    sent: float
    done: float
    answered: bool


def measured(asked: Sequence[Asked]) -> Outage | None:
    """What these questions, in their order, say together; None if there are none.

    Without answer is the time from the sending of a question that got none to the next answer: it may have begun a
    pause of questions earlier, and nobody was there to see it.
    """
    if not asked:
        return None
    seconds, since = 0.0, None
    for one in asked:
        if not one.answered and since is None:
            since = one.sent
        elif one.answered and since is not None:
            seconds, since = seconds + one.done - since, None
    if since is not None:
        seconds += asked[-1].done - since
    waits = [one.done - one.sent for one in asked if one.answered]
    return Outage(
        seconds=round(seconds, 3),
        longest_wait=round(max(waits, default=0.0), 3),
        asked=len(asked),
        failed=sum(not one.answered for one in asked),
    )


def pause(in_a_row: int) -> float:
    """Seconds until the next question, after so many good answers in a row."""
    return COARSE if in_a_row >= QUIET else FINE
