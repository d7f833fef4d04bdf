"""An upgrade's decisions: is the new version up, what becomes of the state, what is kept."""

import pytest
from msgspec import structs

from agent.core.upgrading import (
    ENDS,
    LEAST_SECONDS,
    NEXT,
    RESTARTS,
    STEADY_SECONDS,
    UP_SECONDS,
    Contents,
    Look,
    Mark,
    Phase,
    Watch,
    decided,
    judge,
    superfluous,
    time_to_come_up,
    unit,
    version_of_wheel,
    way_back,
)

MARK = Mark(
    id="1",
    old="0.1.0",
    new="0.2.0",
    old_directory="/opt/homeport.d/0.1.0",
    new_directory="/opt/homeport.d/0.2.0",
    state_dir="/var/lib/homeport",
    socket="/run/homeport/agent.sock",
)


def a_look(elapsed: float, **seen: object) -> Look:
    """A new agent that is well."""
    well = {"active": "active", "invocation": "a", "version": "0.2.0"}
    return Look(elapsed=elapsed, **{**well, **seen})  # type: ignore[arg-type]


def judged(*looks: Look) -> tuple[str, str]:
    """The first judgement that ends the waiting, or the last."""
    watch, judgement, reason = Watch(), "wait", ""
    for look in looks:
        watch, judgement, reason = judge(watch, look, "0.2.0", UP_SECONDS)
        if judgement != "wait":
            break
    return judgement, reason


# --- whether it is up


def test_a_version_is_up_when_it_has_answered_for_a_while() -> None:
    assert judged(a_look(5), a_look(5 + STEADY_SECONDS - 0.1)) == ("wait", "")
    assert judged(a_look(5), a_look(5 + STEADY_SECONDS)) == ("up", "")


@pytest.mark.parametrize(
    "between",
    [
        {"invocation": "b"},
        {"active": "activating"},
        {"active": "deactivating"},
        {"version": ""},
        {"version": "0.1.0"},
    ],
)
def test_whatever_comes_between_begins_the_while_anew(between: dict[str, str]) -> None:
    begun_anew = judged(a_look(5), a_look(8, **between), a_look(5 + STEADY_SECONDS))
    assert begun_anew == ("wait", "")
    assert judged(a_look(5), a_look(8, **between), a_look(9), a_look(9 + STEADY_SECONDS)) == ("up", "")


def test_another_invocation_counts_from_when_it_was_seen() -> None:
    looks = [a_look(1), a_look(9, invocation="b"), a_look(12, invocation="b")]
    assert judged(*looks) == ("wait", "")
    assert judged(*looks, a_look(9 + STEADY_SECONDS, invocation="b")) == ("up", "")


def test_what_systemd_has_given_up_is_down_at_once() -> None:
    assert judged(a_look(1, active="failed")) == ("down", "systemd has given up starting it")


def test_what_ends_again_and_again_is_down_before_the_time_is_over() -> None:
    assert judged(a_look(1, active="activating", restarts=RESTARTS - 1))[0] == "wait"
    assert judged(a_look(1, restarts=RESTARTS)) == ("down", f"it ended {RESTARTS} times by itself")


@pytest.mark.parametrize(
    ("seen", "lacks"),
    [
        ({"active": "activating"}, "ready"),
        ({"active": "inactive"}, "ready"),
        ({"version": ""}, "one that answers"),
        ({"version": "0.1.0"}, "one that answers"),
        ({}, "steady"),
    ],
)
def test_what_is_not_up_in_time_is_down(seen: dict[str, str], lacks: str) -> None:
    assert judged(a_look(UP_SECONDS - 0.1, **seen)) == ("wait", "")
    judgement, reason = judged(a_look(UP_SECONDS, **seen))
    assert judgement == "down"
    assert reason.endswith(f"did not become {lacks}")


@pytest.mark.parametrize("copying", [0.0, 5.0, 20.0])
def test_waiting_and_returning_together_take_less_than_two_minutes(copying: float) -> None:
    """From the old version's stop: its state is copied, ten seconds end what does not come up, the copy is put back,
    and the old version has twenty for its start."""
    assert copying + time_to_come_up(copying) + 10 + copying + 20 <= 120


def test_a_state_that_takes_long_to_copy_leaves_time_to_come_up() -> None:
    assert time_to_come_up(300) == LEAST_SECONDS > STEADY_SECONDS


# --- what becomes of the state

BEFORE = Contents(1, {"deliveries": 4, "deployments": 7})


@pytest.mark.parametrize(
    ("now", "way"),
    [
        (Contents(1, {"deliveries": 4, "deployments": 7}), "keep"),
        (Contents(1, {"deliveries": 5, "deployments": 8}), "keep"),
        (Contents(2, {"deliveries": 4, "deployments": 7}), "put-back"),
        (Contents(2, {"deliveries": 5, "deployments": 7}), "stay"),
        (Contents(2, {"deliveries": 4, "deployments": 8}), "stay"),
        (Contents(2, {"deliveries": 4, "deployments": 7, "restores": 1}), "stay"),
        (Contents(2, {}), "put-back"),
        (None, "put-back"),
    ],
)
def test_nothing_that_was_promised_is_lost_on_the_way_back(now: Contents | None, way: str) -> None:
    assert way_back(BEFORE, now) == way


def test_a_copy_that_is_damaged_is_not_put_back() -> None:
    for now in (None, BEFORE, Contents(2, {})):
        assert way_back(None, now) == "keep"


def test_what_was_decided_of_the_state_is_not_asked_again_after_a_cut() -> None:
    """A state whose log is gone already would give another answer; one that was put back is the old version's."""
    copied = structs.replace(MARK, copied=True)
    assert decided(MARK) == "keep"
    assert decided(copied) is None
    assert decided(structs.replace(copied, putting_back=True)) == "put-back"


# --- phases, files, directories


def test_every_phase_leads_to_an_end_whatever_fails() -> None:
    for phase in Phase:
        assert (phase in NEXT) != (phase in ENDS)
    for good in (True, False):
        phase, steps = Phase.PREPARED, 0
        while phase not in ENDS:
            phase, steps = NEXT[phase][0 if good else 1], steps + 1
            assert steps < 5
        assert phase is (Phase.CONFIRMED if good else Phase.FAILED)


@pytest.mark.parametrize(
    ("metadata", "version"),
    [
        ("Metadata-Version: 2.4\nName: homeport\nVersion: 0.2.0\n\nVersion: 9\n", "0.2.0"),
        ("Name: Homeport\nVersion: 1.0.0rc1+local.2\n", "1.0.0rc1+local.2"),
        ("Name: homeport-other\nVersion: 0.2.0\n", ""),
        ("Version: 0.2.0\n", ""),
        ("Name: homeport\n", ""),
        ("Name: homeport\nVersion: ../../etc\n", ""),
        ("Name: homeport\nVersion: 1/2\n", ""),
        ("", ""),
    ],
)
def test_a_wheels_version_can_name_a_directory(metadata: str, version: str) -> None:
    assert version_of_wheel(metadata) == version


def test_two_versions_are_kept_after_an_upgrade_and_one_that_did_not_come_up_goes() -> None:
    there = [f"/opt/homeport.d/{version}" for version in ("0.0.9", "0.1.0", "0.2.0")]
    ended = {phase: superfluous(there, structs.replace(MARK, phase=phase)) for phase in ENDS}
    assert ended == {
        Phase.CONFIRMED: [there[0]], Phase.RETURNED: [there[2]], Phase.STAYED: [], Phase.FAILED: [],
    }  # fmt: skip


def test_a_version_that_was_there_before_stays_also_if_it_does_not_come_up() -> None:
    mark = structs.replace(MARK, phase=Phase.RETURNED, built=False)
    assert superfluous([MARK.old_directory, MARK.new_directory], mark) == []


def test_the_unit_runs_the_old_program_before_any_agent_is_started() -> None:
    text = unit(MARK)
    assert "\nExecStart=/opt/homeport.d/0.1.0/bin/python -I -m agent install --go-on\n" in text
    assert "\nBefore=homeport.service\n" in text
    assert "\nOnFailure=homeport.service\n" in text
