"""What a poll comes to, and when the next one is due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Deployment, State
from agent.core.polling import Known, pause, reason_against
from tests.build import OTHER, REVISION, a_deployment

FAILED = a_deployment(state=State.FAILED, reason="backup-failed")
SUCCEEDED = a_deployment(state=State.SUCCEEDED)


def passed_over(reason: str) -> Deployment:
    return a_deployment(state=State.SUPERSEDED, reason=reason)


def test_a_tip_that_nobody_spoke_of_is_queued() -> None:
    """R-RX-26."""
    assert reason_against(REVISION, Known(live=None)) == ""
    assert reason_against(REVISION, Known(live=OTHER)) == ""


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (Known(live=REVISION), "live"),
        (Known(live=OTHER, coming=True), "on its way"),
        (Known(live=OTHER, held=True), "held"),
        (Known(live=OTHER, quarantined=True), "quarantined"),
        (Known(live=OTHER, ended=[passed_over("skip-deploy")]), "skip-deploy"),
        (Known(live=OTHER, ended=[passed_over("paths-unchanged")]), "paths-unchanged"),
        (Known(live=OTHER, ended=[passed_over("newer-queued"), passed_over("skip-deploy")]), "skip-deploy"),
        (Known(live=OTHER, chosen=True, ended=[SUCCEEDED]), "a person chose"),
        (Known(live=OTHER, ended=[FAILED] * 3), "failed 3 times"),
        (Known(live=OTHER, ended=[FAILED, FAILED, passed_over("newer-queued"), FAILED]), "failed 3 times"),
    ],
)
def test_what_was_answered_before_is_left_alone(known: Known, words: str) -> None:
    """R-RB-2."""
    assert words in reason_against(REVISION, known)


@pytest.mark.parametrize(
    "known",
    [
        Known(live=OTHER, ended=[FAILED] * 2),
        Known(live=OTHER, ended=[passed_over("newer-queued")]),
        Known(live=OTHER, ended=[SUCCEEDED]),
        Known(live=OTHER, ended=[FAILED, FAILED, SUCCEEDED, FAILED]),
        Known(live=OTHER, chosen=True),
        Known(live=OTHER, chosen=True, ended=[FAILED]),
    ],
)
def test_what_the_world_broke_and_what_the_branch_went_back_to_is_queued(known: Known) -> None:
    """R-RB-6, R-RX-24."""
    assert reason_against(REVISION, known) == ""


@given(st.floats(10, 86400), st.integers(0, 10000), st.floats(0, 1))
def test_a_pause_grows_and_stays_in_its_bounds(interval: float, failures: int, chance: float) -> None:
    longest = max(interval, min(8 * interval, 3600))
    assert 0.9 * interval <= pause(interval, failures, chance) <= 1.1 * longest + 1e-6
    assert pause(interval, failures, chance) <= pause(interval, failures + 1, chance)


def test_the_pauses_of_five_minutes() -> None:
    assert [pause(300, failures, 0.5) for failures in range(6)] == [300, 600, 1200, 2400, 2400, 2400]
    assert [pause(1800, failures, 0.5) for failures in range(3)] == [1800, 3600, 3600]
    assert [pause(7200, failures, 0.5) for failures in range(3)] == [7200] * 3
    assert (pause(300, 0, 0), round(pause(300, 0, 1), 6)) == (270, 330)
