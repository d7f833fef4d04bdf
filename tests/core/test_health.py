"""The verdict on a new version, and the health of a live one: tables for the named cases, properties for the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.codes import CODES
from agent.core.health import AtRest, Observation, Phase, Trial, begin, confirm
from agent.core.model import Fault, Probed
from agent.core.settings import Health, Seconds

GOOD, BAD = Probed(healthy=True, detail="200"), Probed(healthy=False, detail="503 instead of 200")
SWITCH = 1000.0


def rules(*, every: float = 2, timeout: float = 60, successes: int = 3, soak: float = 10) -> Health:
    return Health(every=Seconds(every), timeout=Seconds(timeout), successes=successes, soak=Seconds(soak))


def observations(script: str, *, every: float = 2) -> list[Observation]:
    """One observation per character, the first one at the switch: `+` good, `-` bad, `x` dead, `o` another instance."""
    kinds = {"+": ("one", GOOD), "-": ("one", BAD), "x": (None, BAD), "o": ("two", GOOD)}
    seen = enumerate(kinds[character] for character in script)
    return [Observation(at=SWITCH + n * every, instance=who, probes=(probed,)) for n, (who, probed) in seen]


def trial(script: str, given_rules: Health | None = None, *, every: float = 2) -> Trial:
    judged = begin(given_rules or rules(), at=SWITCH, instance="one")
    for seen in observations(script, every=every):
        judged = judged.judge(seen)
    return judged


@pytest.mark.parametrize(
    ("script", "phase", "code"),
    [
        ("", Phase.WAITING, ""),
        ("++", Phase.WAITING, ""),
        ("+++", Phase.SOAKING, ""),
        ("++-++", Phase.WAITING, ""),
        ("--+++", Phase.SOAKING, ""),
        ("+++++++", Phase.SOAKING, ""),  # 8 s of 10
        ("++++++++", Phase.HEALTHY, ""),  # the soak began with the third
        ("++++++++-x", Phase.HEALTHY, ""),  # final
        ("+++-", Phase.FAILED, "soak-failed"),
        ("+++-+++++++++++", Phase.FAILED, "soak-failed"),  # final
        ("+++++++-", Phase.FAILED, "soak-failed"),
        ("+++o", Phase.FAILED, "soak-failed"),
        ("+++x", Phase.FAILED, "process-died"),
        ("x", Phase.FAILED, "process-died"),
        ("--x", Phase.FAILED, "process-died"),
        ("-o", Phase.FAILED, "process-died"),  # F62: it crashed and was started anew
        ("-" * 30, Phase.WAITING, ""),
        ("-" * 31, Phase.FAILED, "health-timeout"),  # F63, at 60 s
        ("+-" * 15 + "+", Phase.FAILED, "health-timeout"),  # F64: flaps by half
        ("++-" * 10 + "+", Phase.FAILED, "health-timeout"),  # F64: never three in a row
        ("-" * 28 + "+++", Phase.SOAKING, ""),  # the third exactly at the deadline
        ("-" * 29 + "++", Phase.FAILED, "health-timeout"),  # a row of two at the deadline
        ("-" * 28 + "+++" + "+++++", Phase.HEALTHY, ""),  # timeout ends before the soak
    ],
)
def test_the_named_cases(script: str, phase: Phase, code: str) -> None:
    """R-RB-7, F62-F64."""
    judged = trial(script)
    assert (judged.phase, judged.code) == (phase, code)


def test_an_answer_of_another_process_is_a_failure() -> None:
    """F65: the health endpoint answers from the old process."""
    foreign = confirm(GOOD, False)
    assert not foreign.healthy
    assert foreign.detail == "another process answers (200)"
    assert confirm(Probed(healthy=True, detail="200", seconds=1.5), False).seconds == 1.5
    judged = begin(rules(), at=0, instance="one")
    for at in range(0, 62, 2):
        judged = judged.judge(Observation(at=at, instance="one", probes=(foreign,)))
    assert judged.code == "health-timeout"
    assert "another process answers" in judged.detail


@pytest.mark.parametrize("listens", [True, None])
def test_what_is_ours_or_cannot_be_told_is_taken_as_it_is(listens: bool | None) -> None:
    assert confirm(GOOD, listens) is GOOD
    assert confirm(BAD, False) is BAD


def test_every_probe_must_be_well() -> None:
    judged = begin(rules(successes=1, soak=0), at=0, instance="one")
    judged = judged.judge(Observation(at=0, instance="one", probes=(GOOD, BAD)))
    assert judged.phase is Phase.WAITING
    assert judged.judge(Observation(at=1, instance="one", probes=(GOOD, GOOD))).phase is Phase.HEALTHY


def test_without_probes_a_process_that_stays_alive_is_healthy() -> None:
    judged = begin(rules(successes=1, soak=4), at=0, instance="one")
    for at in (0.0, 2.0, 4.0):
        assert not judged.decided
        judged = judged.judge(Observation(at=at, instance="one"))
    assert judged.phase is Phase.HEALTHY


def test_without_a_soak_the_last_success_decides() -> None:
    assert trial("+++", rules(soak=0)).phase is Phase.HEALTHY


def test_a_slow_answer_counts_when_it_came() -> None:
    """F66: 4.9 s; the third arrives after the deadline."""
    assert trial("+++", rules(timeout=9.8), every=4.9).phase is Phase.SOAKING
    assert trial("+++", rules(timeout=9.7), every=4.9).code == "health-timeout"


def test_a_gap_in_the_soak_does_not_prove_anything() -> None:
    """The agent was suspended: the first look after it decides."""
    soaking = trial("+++")
    late = SWITCH + 1000
    assert soaking.judge(Observation(at=late, instance="one", probes=(BAD,))).code == "soak-failed"
    assert soaking.judge(Observation(at=late, instance="one", probes=(GOOD,))).phase is Phase.HEALTHY


def test_the_reason_names_the_last_complaint_cleaned() -> None:
    judged = begin(rules(timeout=1), at=0, instance="one")
    judged = judged.judge(
        Observation(at=0, instance="one", probes=(Probed(healthy=False, detail="no\x1b[31m\nport"),))
    )
    judged = judged.judge(Observation(at=2, instance="one", probes=(GOOD,)))
    assert judged.detail == "not healthy within 1 s (1 of 3 in a row at its end); last: no port"
    assert trial("+++-").detail == "healthy, but 2.0 s later: 503 instead of 200"


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("x", "the process ended"),
        ("-o", "the process ended and was started anew"),
        ("+++o", "the process was started anew during the soak"),
        ("-+++", ""),  # what was wrong before the soak is over
    ],
)
def test_the_reason_tells_what_became_of_the_process(script: str, detail: str) -> None:
    assert trial(script).detail == detail


def test_the_row_that_began_the_soak_is_kept() -> None:
    assert [trial(script).row for script in ("-", "+", "++-", "+++", "++++")] == [0, 1, 0, 3, 3]


def test_a_pause_ends_with_the_deadline_or_with_the_soak() -> None:
    waiting, soaking = trial(""), trial("+++")  # the soak began at 4 s and ends at 14 s
    assert [waiting.pause(SWITCH + after) for after in (0, 58.5, 60, 61)] == [2, 1.5, 0, 0]
    assert [soaking.pause(SWITCH + after) for after in (4, 12.5, 14, 15)] == [2, 1.5, 0, 0]


@pytest.mark.parametrize("code", ["health-timeout", "soak-failed", "process-died"])
def test_every_code_is_the_commits_own_fault(code: str) -> None:
    assert CODES[code].fault is Fault.COMMIT


# --- properties


RULES = st.builds(
    rules,
    every=st.sampled_from([0.1, 1, 2, 7]),
    timeout=st.sampled_from([0, 0.3, 5, 20]),
    successes=st.integers(1, 4),
    soak=st.sampled_from([0, 0.3, 6, 10]),
)
SCRIPTS = st.text(alphabet="+++++-xo", max_size=25)


@given(RULES, SCRIPTS)
def test_healthy_only_after_enough_in_a_row_in_time_and_a_spotless_soak(
    given_rules: Health, script: str
) -> None:
    """R-RB-7, told without the machine: look at the whole record at once."""
    judged = trial(script, given_rules)
    limit, wanted = SWITCH + given_rules.timeout, given_rules.successes
    seen = observations(script)
    proven = False
    for end in range(wanted - 1, len(seen)):
        row = seen[end - wanted + 1 : end + 1]
        if all(one.good and one.instance == "one" for one in row) and row[-1].at <= limit:
            soak_end = row[-1].at + given_rules.soak
            last = next((n for n in range(end, len(seen)) if seen[n].at >= soak_end), None)
            spotless = (
                last is not None
                and set(script[: last + 1]) <= {"+", "-"}
                and "-" not in script[end : last + 1]
            )
            proven = spotless
            break  # the first such row begins the soak; there is no second trial
    assert (judged.phase is Phase.HEALTHY) == proven


@given(RULES, SCRIPTS, st.data())
def test_one_more_failure_never_helps_before_the_soak(
    given_rules: Health, script: str, data: st.DataObject
) -> None:
    """(In between it may put off a soak that would have failed.)"""
    good = [n for n, character in enumerate(script) if character == "+"]
    if not good:
        return
    place = data.draw(st.sampled_from(good))
    worse = script[:place] + data.draw(st.sampled_from("-xo")) + script[place + 1 :]
    if trial(worse, given_rules).phase is Phase.HEALTHY:
        judged = trial(script, given_rules)
        assert judged.phase is Phase.HEALTHY or judged.row >= given_rules.successes


@given(RULES, SCRIPTS, st.sampled_from("-xo"))
def test_any_failure_in_the_soak_fails(given_rules: Health, script: str, failure: str) -> None:
    judged = trial(script, given_rules)
    if judged.phase is Phase.SOAKING:
        at = SWITCH + len(script) * 2
        bad = observations(failure)[0]
        after = judged.judge(Observation(at=at, instance=bad.instance, probes=bad.probes))
        assert after.phase is Phase.FAILED


@given(RULES, SCRIPTS, SCRIPTS)
def test_a_verdict_is_final(given_rules: Health, script: str, more: str) -> None:
    judged = trial(script, given_rules)
    if judged.decided:
        after = judged
        for seen in observations(more):
            after = after.judge(seen)
        assert after == judged
        assert bool(judged.code) == (judged.phase is Phase.FAILED)


@given(
    RULES,
    st.lists(st.sampled_from([GOOD, BAD]), max_size=12),
    st.sampled_from([GOOD, BAD]),
    st.floats(0, 0.5),
    st.floats(0, 1e9),
)
def test_looking_when_a_look_is_due_always_ends(
    given_rules: Health, answers: list[Probed], rest: Probed, took: float, start: float
) -> None:
    """`pause` never leads past a deadline, and never stands still before it: also with a clock that only jumps."""
    judged, now, looks = begin(given_rules, at=start, instance="one"), start, 0
    longest = (
        given_rules.timeout + given_rules.soak + (given_rules.successes + 15) * (given_rules.every + took)
    )
    while not judged.decided:
        answer = answers[looks] if looks < len(answers) else rest
        now += took
        judged = judged.judge(Observation(at=now, instance="one", probes=(answer,)))
        pause = judged.pause(now)
        assert 0 <= pause <= given_rules.every
        now, looks = now + pause, looks + 1
        assert looks < 1000
    assert now - start <= longest + 1


# --- at rest


@pytest.mark.parametrize(
    ("script", "statuses"),
    [
        ("", []),
        ("-", ["unknown"]),
        ("--", ["unknown", "unhealthy"]),
        ("+-", ["healthy", "healthy"]),
        ("+--", ["healthy", "healthy", "unhealthy"]),
        ("+-+-+", ["healthy"] * 5),
        ("--+", ["unknown", "unhealthy", "healthy"]),
        ("--+-", ["unknown", "unhealthy", "healthy", "healthy"]),
        ("+x", ["healthy", "unhealthy"]),
        ("+x-", ["healthy", "unhealthy", "unhealthy"]),
        ("+o", ["healthy", "healthy"]),
    ],
)
def test_at_rest_two_bad_ones_in_a_row_or_a_death_make_it_unhealthy(script: str, statuses: list[str]) -> None:
    """R-OUT-9: two consecutive bad samples to fire."""
    rest, found = AtRest(), []
    for seen in observations(script):
        rest = rest.after(seen)
        found.append(rest.status)
    assert found == statuses


def test_at_rest_the_complaint_is_told() -> None:
    bad, dead = observations("-x")
    assert AtRest().after(bad).detail == "503 instead of 200"
    assert AtRest().after(dead).detail == "the process is not running"
    assert AtRest(status="healthy", detail="x").after(observations("+")[0]) == AtRest(status="healthy")


def test_at_rest_a_death_counts_among_the_bad_ones_in_a_row() -> None:
    rest, counts = AtRest(), []
    for seen in observations("xx-+-"):
        rest = rest.after(seen)
        counts.append(rest.bad)
    assert counts == [1, 2, 3, 0, 1]
