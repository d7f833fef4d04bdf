"""The life of a deployment is a table; these tests are about its shape, not about its rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Fault, State
from agent.core.pipeline import (
    BEFORE_SWITCH,
    ENDS,
    TABLE,
    Outcome,
    advance,
    diagram,
    quarantines,
    recover,
    untouched,
)
from tests.build import a_deployment

STRAIGHT = [
    State.QUEUED,
    State.FETCHING,
    State.BUILDING,
    State.BACKING_UP,
    State.SWITCHING,
    State.VERIFYING,
    State.SUCCEEDED,
]


def test_a_deployment_without_trouble_goes_straight_through() -> None:
    states = [State.QUEUED]
    while states[-1] not in ENDS:
        states.append(advance(states[-1], Outcome.OK))
    assert states == STRAIGHT


def test_nothing_leaves_an_end() -> None:
    assert {
        State.SUCCEEDED,
        State.FAILED,
        State.ROLLED_BACK,
        State.SUPERSEDED,
        State.BROKEN,
    } == ENDS
    for end in ENDS:
        with pytest.raises(ValueError, match="no way out"):
            advance(end, Outcome.OK)


def test_every_state_can_fail() -> None:
    assert all(Outcome.FAILED in ways for ways in TABLE.values())


def test_a_failure_before_the_switch_ends_it_and_one_after_goes_back() -> None:
    for state in TABLE:
        expected = {True: State.FAILED, False: State.ROLLING_BACK}[state in BEFORE_SWITCH]
        if state is State.ROLLING_BACK:
            expected = State.BROKEN
        assert advance(state, Outcome.FAILED) is expected


def test_only_a_request_that_touched_nothing_can_be_superseded() -> None:
    may = {state for state, ways in TABLE.items() if Outcome.CANCELLED in ways}
    assert may == BEFORE_SWITCH


@given(st.lists(st.sampled_from(list(Outcome)), max_size=30))
def test_every_walk_ends_and_never_goes_live_without_verifying(outcomes: list[Outcome]) -> None:
    walk = [State.QUEUED]
    for outcome in outcomes:
        if outcome in TABLE.get(walk[-1], {}):
            walk.append(advance(walk[-1], outcome))
    assert len(walk) == len(set(walk)), "no state is visited twice: there is no loop"
    if walk[-1] is State.SUCCEEDED:
        assert walk[-2] in (State.VERIFYING, State.FETCHING, State.ROLLING_BACK)
    if State.SWITCHING in walk:
        assert walk.index(State.BACKING_UP) < walk.index(State.SWITCHING)


@pytest.mark.parametrize("state", sorted(BEFORE_SWITCH))
def test_three_interruptions_before_the_switch_end_it(state: State) -> None:
    """Before the switch: nothing has changed yet."""
    assert [recover(state, count) for count in (0, 1, 2, 3)] == [None, None, None, Outcome.FAILED]


@pytest.mark.parametrize("state", [State.SWITCHING, State.VERIFYING])
def test_a_second_interruption_after_the_switch_goes_back(state: State) -> None:
    """F11."""
    assert [recover(state, count) for count in (0, 1, 2)] == [None, None, Outcome.FAILED]
    assert advance(state, Outcome.FAILED) is State.ROLLING_BACK


def test_going_back_is_finished_however_often_it_is_cut_off() -> None:
    """F12."""
    assert {recover(State.ROLLING_BACK, count) for count in range(50)} == {None}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_what_has_ended_is_not_recovered(end: State) -> None:
    with pytest.raises(ValueError, match="has ended"):
        recover(end, 1)


def test_only_the_commits_own_failures_quarantine_it() -> None:
    """R-RB-6."""
    quarantined = {(state, fault) for state in State for fault in (None, *Fault) if quarantines(state, fault)}
    assert quarantined == {
        (State.FAILED, Fault.COMMIT),
        (State.ROLLED_BACK, Fault.COMMIT),
        (State.BROKEN, Fault.COMMIT),
    }


def test_what_is_live_still_serves_until_the_switch_or_until_a_rollback_has_its_aim() -> None:
    """After a reboot it is started before the deployment goes on."""
    assert {state for state in TABLE if untouched(a_deployment(state=state))} == BEFORE_SWITCH
    back = {"state": State.ROLLING_BACK, "target": ""}
    assert untouched(a_deployment(**back))
    assert not untouched(a_deployment(**back, release="3-aaaaaaa"))


def test_the_diagram_draws_every_transition_and_nothing_else() -> None:
    lines = diagram().split("\n")
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> queued"]
    ways = {
        f"    {state} --> {target}: {outcome.replace('_', ' ')}"
        for state, ways in TABLE.items()
        for outcome, target in ways.items()
    }
    assert set(lines[2:]) == ways | {f"    {end} --> [*]" for end in ENDS}
