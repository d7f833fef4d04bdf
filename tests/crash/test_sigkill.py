"""R-PL-2, F16: SIGKILL of the real agent before, in the middle of and after every act of a deployment.

The points are not written down: a run without a kill records them, and every state of the pipeline's table must be
among them.
"""

from collections.abc import Callable, Sequence

import pytest

from agent.core.model import State
from agent.core.pipeline import BEFORE_SWITCH, TABLE
from tests.crash.sweep import (
    PHASES,
    a_quick_home_settings,
    ask_back,
    check_convergence,
    check_traces,
    die_at,
    die_going_back,
    die_in_recovery,
    record_points,
    record_rollback,
)
from tests.world import Home, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(900)]

SHARDS = 4

SAME_IN_BOTH = BEFORE_SWITCH - {State.BUILDING}
"""That a version is broken shows after the switch; until then a broken one does the same acts as a good one, which are
swept with that, but builds its dependencies itself."""


@pytest.fixture
def prepared(make_home: Callable[..., Home]) -> Home:
    """One good version is live, the agent is stopped."""
    home = make_home()
    a_quick_home_settings(home)
    home.start()
    assert home.deploy("first")["state"] == "succeeded"
    home.stop()
    return home


def test_every_state_of_the_table_has_points(prepared: Home) -> None:
    passed = {name.partition("/")[0] for name in record_points(prepared, "good")}
    passed |= {name.partition("/")[0] for name in record_points(prepared, "crash")}
    assert passed == set(TABLE) | {State.QUEUED}


def _sweep(home: Home, mode: str, phases: Sequence[str], part: slice, how: str) -> None:
    """One death after the other in the same home; each time the agent starts again and must converge."""
    places = [
        f"{name}@{phase}"
        for name in record_points(home, mode)
        for phase in phases
        if mode == "good" or name.partition("/")[0] not in SAME_IN_BOTH
    ]
    assert len(places) >= SHARDS
    before = "first" if mode == "crash" else "recorded-good"
    for number, place in list(enumerate(places))[part]:
        version = f"{mode}-{number}"
        body = die_at(home, place, mode, version, DYING_HOW=how)
        if how == "term" and mode == "good":  # a broken version may stand where it was stopped
            # what the switch has just started needs a moment until it listens
            wait_for(f"the service, after a SIGTERM at {place}", home.service, 10)
        home.start()
        try:
            check_convergence(home, body, mode, version, before)
        except AssertionError as error:
            raise AssertionError(f"after a {how} at {place}: {error}") from error
        before = version if mode == "good" else before
        home.stop()
    print(f"{how}: {len(places[part])} points, all converged")


@pytest.mark.parametrize("mode", ["good", "crash"])
@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_at_every_point_it_ends_as_without_the_kill(prepared: Home, mode: str, shard: int) -> None:
    """R-PL-2."""
    _sweep(prepared, mode, PHASES, slice(shard, None, SHARDS), "kill")


def test_killed_at_every_point_of_a_rollback_by_hand_it_ends_as_without_the_kill(prepared: Home) -> None:
    """R-PL-2, R-RB-10, F12: back and forth between two releases."""
    prepared.start()
    first = prepared.current()
    assert prepared.deploy("second")["state"] == "succeeded"
    second = prepared.current()
    prepared.stop()
    places = [f"{name}@{phase}" for name in record_rollback(prepared, first) for phase in PHASES]
    versions = {first: "first", second: "second"}
    assert any(place.startswith("rolling_back/rollbacks.aim") for place in places)
    for number, place in enumerate(places):
        to = (second, first)[number % 2]
        die_going_back(prepared, place, to)
        prepared.start()
        ended = prepared.ended(ask_back(prepared, to, place))
        service = prepared.service()
        assert (ended["state"], ended["release"]) == ("succeeded", to), (place, ended)
        assert service is not None, place
        assert (service["version"], prepared.current()) == (versions[to], to), place
        check_traces(prepared)
        prepared.stop()
    print(f"kill: {len(places)} points of a rollback, all converged")


@pytest.mark.parametrize("mode", ["good", "crash"])
def test_stopped_in_the_middle_of_every_act_it_goes_on_and_the_service_never_blinks(
    prepared: Home, mode: str
) -> None:
    """R-SD-7, F18."""
    _sweep(prepared, mode, ["mid"], slice(None), "term")


FIRST_DEATHS = (
    "building/builder.build/1@mid",
    "switching/runtime.stop/1@after",
    "verifying/journal.advance/1@mid",
)


def test_killed_again_during_recovery_it_still_converges(prepared: Home) -> None:
    """R-PL-3, F17: a second kill at every act of the recovery that follows the first."""
    passed = 0
    before = "first"
    for first in FIRST_DEATHS:
        number = 1
        while True:
            version = f"twice-{passed}"
            body = die_at(prepared, first, "good", version, DYING_HOW="kill")
            died = die_in_recovery(prepared, number)
            if not died:
                prepared.stop()
            prepared.start()
            ended = check_convergence(
                prepared, body, "good", version, before, ends=("succeeded", "rolled_back")
            )
            if ended["state"] == "succeeded":
                before = version
            prepared.stop()
            if not died:
                break
            passed += 1
            number += 2
    assert passed >= 8
