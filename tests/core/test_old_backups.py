"""Which backups may go: the rules of `backup.keep`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.model import Backup
from agent.core.retention import outdated
from agent.core.settings import DAY, Keep, Seconds

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STATES = ("ok", "partial", "bad", "unverified")


def a_backup(identity: str, at: datetime, state: str = "ok") -> Backup:
    return Backup(id=identity, service="scraper", at=at, state=state, bytes=1, stored_bytes=1)


def daily(count: int, state: str = "ok") -> list[Backup]:
    """One a day, the newest an hour ago: b0, b1 ..."""
    return [a_backup(f"b{n}", NOW - timedelta(days=n, hours=1), state) for n in range(count)]


def gone(
    backups: Sequence[Backup], keep: Keep, protected: Sequence[str] = (), now: datetime = NOW
) -> set[str]:
    found = outdated(backups, now, keep, protected)
    assert found is not None
    return {backup.id for backup in found}


def only(**rules: int) -> Keep:
    """A policy with nothing but these rules."""
    return Keep(**({"last": 1, "daily": 0, "weekly": 0, "monthly": 0} | rules))  # type: ignore[arg-type]


def test_what_is_not_good_stays_until_there_are_newer_good_ones() -> None:
    good = [a_backup("g0", NOW - timedelta(hours=1)), a_backup("g1", NOW - timedelta(hours=2))]
    newer, older = (a_backup(f"p{hours}", NOW - timedelta(hours=hours), "partial") for hours in (2, 3))
    backups = [good[0], newer, good[1], older]
    assert gone(backups, only(last=2)) == {"p3"}
    assert gone(backups, only(last=3)) == set()


def test_a_gap_that_is_just_as_long_as_backups_are_kept_is_no_jump_of_the_clock() -> None:
    backups = [a_backup(f"b{days}", NOW - timedelta(days=days, seconds=1)) for days in (0, 10, 15)]
    keep = Keep(last=1, daily=9, weekly=0, monthly=0, max_age=Seconds(10 * DAY))
    assert gone(backups, keep) == {"b15"}
    backups[1] = a_backup("b11", NOW - timedelta(days=11))
    assert gone(backups, keep) == set()


def test_the_default_keeps_the_last_five_a_week_of_days_and_four_weeks() -> None:
    kept = {f"b{n}" for n in range(60)} - gone(daily(60), Keep())
    assert {f"b{n}" for n in range(7)} <= kept
    assert len(kept) == 10  # the current week and one more lie within the seven days
    assert all(int(name[1:]) <= 30 for name in kept)


def test_several_a_day_leave_the_newest_of_each_day_in_utc() -> None:
    hours = [a_backup(f"h{n}", NOW - timedelta(hours=n)) for n in range(30)]
    assert {f"h{n}" for n in range(30)} - gone(hours, only(daily=2)) == {"h0", "h13"}
    late = [
        a_backup("a", datetime(2026, 11, 21, 23, 59, tzinfo=UTC)),
        a_backup("b", datetime(2026, 11, 22, 0, 1, tzinfo=UTC)),
    ]
    assert gone(late, only(daily=2)) == set()


def test_months_are_kept_as_long_as_max_age_lets_them() -> None:
    backups = daily(400)
    keep = Keep(last=1, daily=0, weekly=0, monthly=6, max_age=Seconds(200 * DAY))
    assert len(backups) - len(gone(backups, keep)) == 6
    assert len(backups) - len(gone(backups, Keep(last=1, daily=0, weekly=0, monthly=6))) <= 2


def test_what_is_old_goes_but_never_the_last_ones() -> None:
    ancient = [a_backup(f"b{n}", NOW - timedelta(days=1000 + n)) for n in range(9)]
    assert gone(ancient[:7], Keep()) == set(), "days and weeks keep them: ages count from the newest"
    assert gone(ancient, Keep(daily=0, weekly=0)) == {"b5", "b6", "b7", "b8"}


def test_what_is_not_good_stays_until_there_are_enough_good_ones() -> None:
    """R-BK-10: partial and bad ones do not count."""
    mixed = [*daily(4), *(a_backup(f"x{n}", NOW - timedelta(days=10 + n), "bad") for n in range(3))]
    assert gone(mixed, only(last=5)) == set()
    assert gone(mixed, only(last=4)) == {"x0", "x1", "x2"}
    fresh_but_bad = [a_backup("x", NOW - timedelta(minutes=1), "partial"), *daily(9)]
    assert gone(fresh_but_bad, only(last=2)) == {f"b{n}" for n in range(2, 9)}


def test_what_was_adopted_keeps_its_days_and_weeks() -> None:
    """After a lost state.db all are unverified: the first five good ones must not cost the history."""
    adopted = [a_backup(f"u{n}", NOW - timedelta(days=10 + n), "unverified") for n in range(20)]
    kept = {f"u{n}" for n in range(20)} - gone([*daily(5), *adopted], Keep(max_age=Seconds(60 * DAY)))
    assert {"u0", "u1"} <= kept
    assert gone(adopted, Keep()) == set(), "no good one at all: nothing goes"


def test_a_clock_that_is_behind_the_newest_backup_removes_nothing() -> None:
    """R-PL-7."""
    backups = daily(60)
    for years in (1, 10, 50):
        assert outdated(backups, NOW - timedelta(days=365 * years), Keep(), ()) is None
    assert outdated(backups, NOW - timedelta(hours=2), Keep(), ()) is None
    assert outdated([], NOW, Keep(), ()) == []


def test_a_backup_made_while_the_clock_was_years_ahead_does_not_make_the_others_old() -> None:
    """R-PL-7: ages count from before the jump, until `last` backups stand on its other side."""
    history = daily(28)
    ahead = a_backup("jump", NOW + timedelta(days=3650))
    before = gone(history, Keep())
    after = gone([*history, ahead], Keep(), now=NOW + timedelta(days=3651))
    assert len(after - before) <= 3, "it takes one place of each rule, no more"
    many = [a_backup(f"j{n}", NOW + timedelta(days=3650, hours=n)) for n in range(7)]
    assert gone([*history, *many], Keep(), now=NOW + timedelta(days=3651)) >= {f"b{n}" for n in range(8, 28)}


backups = st.lists(st.tuples(st.integers(0, 400 * 24), st.sampled_from(STATES)), max_size=40).map(
    lambda made: [
        a_backup(f"b{n}", NOW - timedelta(hours=hours), state)
        for n, (hours, state) in enumerate(sorted(made, key=lambda one: one[0]))
    ]
)
"""The newest first."""
policies = st.builds(
    Keep,
    last=st.integers(1, 8), daily=st.integers(0, 9), weekly=st.integers(0, 6), monthly=st.integers(0, 4),
    max_age=st.integers(1, 500).map(lambda days: Seconds(days * DAY)),
)  # fmt: skip
protections = st.lists(st.integers(0, 40).map(lambda n: f"b{n}"), max_size=4)


@settings(deadline=None)
@given(backups, policies, protections)
def test_what_must_stay_stays(made: list[Backup], keep: Keep, protected: list[str]) -> None:
    """R-BK-10: the newest good one, what is protected, and at least `last` good ones or all that there are."""
    lost = gone(made, keep, protected)
    good = [item for item in made if item.state == "ok"]  # the newest first
    left = [item for item in good if item.id not in lost]
    assert left[:1] == good[:1]
    assert left[: keep.last] == good[: keep.last]
    assert not lost & set(protected)


@settings(deadline=None)
@given(backups, policies, protections, st.integers(-3650, 3650))
def test_a_clock_that_jumps_removes_nothing_more(
    made: list[Backup], keep: Keep, protected: list[str], days: int
) -> None:
    """R-BK-10, R-PL-7: ten years in either direction."""
    jumped = outdated(made, NOW + timedelta(days=days), keep, protected)
    assert {item.id for item in jumped or ()} <= gone(made, keep, protected)


@settings(deadline=None)
@given(backups, policies, protections)
def test_a_second_run_finds_nothing(made: list[Backup], keep: Keep, protected: list[str]) -> None:
    lost = gone(made, keep, protected)
    left = [item for item in made if item.id not in lost]
    assert gone(left, keep, protected) == set()


# --- clocks


def made_by(clock: Sequence[int]) -> list[Backup]:
    """One backup after the other, each when the clock on the wall showed so many hours after NOW; newest first."""
    return [a_backup(f"m{n}", NOW + timedelta(hours=hours)) for n, hours in enumerate(clock)][::-1]


def test_one_backup_from_the_future_does_not_stop_the_rules_for_years() -> None:
    """F53: it stays; the others go by the rules once `last` were made behind it."""
    history = list(range(-400, -100, 10))
    ahead = [*history, 87600]
    for behind in range(5):
        clock = [*ahead, *range(-90, -90 + 10 * behind, 10)]
        assert outdated(made_by(clock), NOW, Keep(), ()) is None, behind
    found = outdated(made_by([*ahead, *range(-90, -40, 10)]), NOW, Keep(), ())
    assert found, "the rules work again"
    assert f"m{len(history)}" not in {backup.id for backup in found}, "and the one from the future stays"


def test_a_boot_in_1970_costs_no_backup_however_many_are_made_under_it() -> None:
    """F53, R-PL-7: the history is in that clock's future; of what is made then the rules keep what they always do."""
    history = list(range(-24 * 28, 0, 24))
    in_1970 = -24 * 365 * 56
    for count in range(30):
        made = made_by([*history, *range(in_1970, in_1970 + count)])
        found = outdated(made, NOW + timedelta(hours=in_1970 + count), Keep(), ())
        assert {backup.id for backup in found or ()}.isdisjoint({f"m{n}" for n in range(len(history))})
        assert len(made) - len(found or ()) >= len(history) + min(count, 5)


def test_the_last_ones_are_those_that_were_made_last_whatever_their_dates() -> None:
    """F53: what was made in 1970, before the time server was found, is the newest data that there is."""
    history = list(range(-24 * 28, 0, 24))
    made = made_by([*history, -490_000, -489_999])
    found = outdated(made, NOW, Keep(last=2, daily=1, weekly=0), ())
    assert found is not None
    assert {"m28", "m29", "m27"}.isdisjoint({backup.id for backup in found})


clocks = st.lists(
    st.one_of(st.integers(-500, 0), st.sampled_from([-490_000, -8760, 8760, 87600])), max_size=40
)


@given(clocks, policies, protections, st.integers(-500_000, 90_000))
def test_no_clock_ever_costs_the_last_ones_or_what_is_protected(
    clock: list[int], keep: Keep, protected: list[str], now: int
) -> None:
    """R-BK-10, F53: whatever it showed at each backup and shows now; and what goes is not dated in its future."""
    made = made_by(clock)
    found = outdated(made, NOW + timedelta(hours=now), keep, protected) or []
    lost = {backup.id for backup in found}
    assert lost.isdisjoint({backup.id for backup in made[: keep.last]})
    assert lost.isdisjoint(protected)
    assert all(backup.at <= NOW + timedelta(hours=now) for backup in found)


@given(
    st.lists(st.integers(0, 400 * 24), max_size=40),
    policies,
    st.lists(st.integers(-500_000, 90_000), max_size=5),
)
def test_a_clock_that_jumps_to_and_fro_without_a_backup_costs_none(
    hours: list[int], keep: Keep, jumps: list[int]
) -> None:
    """F53, R-PL-7: what the rules left under a right clock they leave under every other."""
    made = made_by(sorted(-each for each in hours))
    lost = {backup.id for backup in outdated(made, NOW, keep, ()) or ()}
    left = [backup for backup in made if backup.id not in lost]
    for jump in jumps:
        assert not outdated(left, NOW + timedelta(hours=jump), keep, ())
