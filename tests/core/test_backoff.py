"""When a step that the world made fail is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.backoff import JITTER, PASSING, PATIENCE, PAUSES, pause
from agent.core.codes import CODES
from agent.core.model import Fault


def test_there_are_three_further_tries_each_after_a_longer_pause() -> None:
    """R-RB-6, F33"""
    assert len(PAUSES) == 3
    assert [pause("git-unreachable", number, 0, 0.5) for number in (1, 2, 3, 4)] == [*PAUSES, None]
    assert list(PAUSES) == sorted(PAUSES)


def test_what_a_person_has_to_mend_is_told_at_once() -> None:
    """F43: a revoked key or a full disk is no better in a moment; nor is what the commit itself is to blame for."""
    for code in CODES.keys() - PASSING:
        assert pause(code, 1, 0, 0.5) is None
    assert all(CODES[code].fault is Fault.WORLD for code in PASSING)


@pytest.mark.parametrize("wanted", [0, 1, 60, 299])
def test_who_asks_to_be_left_alone_is_left_alone(wanted: float) -> None:
    """F44"""
    seconds = pause("git-unreachable", 1, 0, 0.5, wanted)
    assert seconds is not None
    assert seconds >= wanted


def test_who_asks_for_more_than_the_queue_can_wait_is_not_waited_for() -> None:
    """F44: the deployment ends, and the poll comes back when it may."""
    assert pause("git-unreachable", 1, 0, 0.5, PATIENCE + 1) is None
    assert pause("git-unreachable", 1, PATIENCE - 10, 0.5, 11) is None


@given(
    st.integers(min_value=0, max_value=9),
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1),
    st.none() | st.floats(min_value=0, max_value=1e9),
)
def test_no_try_begins_after_the_patience_and_no_pause_is_far_from_its_own(
    failures: int, elapsed: float, chance: float, wanted: float | None
) -> None:
    seconds = pause("git-timeout", failures, elapsed, chance, wanted)
    if seconds is None:
        return
    assert elapsed + seconds <= PATIENCE
    own = PAUSES[failures - 1]
    assert seconds == wanted or own * (1 - JITTER) <= seconds <= own * (1 + JITTER)
