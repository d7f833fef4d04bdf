"""The guard: admission, the hold, the way back, what may be pruned."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.core import guard
from agent.core.guard import Admit, Ignore, Join, Standing
from agent.core.model import Fault, Release, State
from agent.core.retention import removable
from tests.build import OTHER, REVISION, a_deployment, a_release, a_step
from tests.fakes import START

FREE = Standing(held=False, quarantined=False, open=())


def test_a_free_service_admits() -> None:
    assert guard.admit(FREE, REVISION, force=False) == Admit()


def test_a_held_service_ignores_and_a_person_overrides() -> None:
    held = Standing(held=True, quarantined=False, open=())
    assert guard.admit(held, REVISION, force=False) == Ignore("held")
    assert guard.admit(held, REVISION, force=True) == Admit()


def test_a_quarantined_revision_is_ignored_and_a_person_overrides() -> None:
    """R-RB-2."""
    poisoned = Standing(held=False, quarantined=True, open=())
    assert guard.admit(poisoned, REVISION, force=False) == Ignore("quarantined")
    assert guard.admit(poisoned, REVISION, force=True) == Admit()


def test_a_revision_that_is_on_its_way_is_joined() -> None:
    """R-RX-14, F95."""
    for state in (State.QUEUED, State.FETCHING, State.SWITCHING, State.VERIFYING):
        standing = Standing(held=False, quarantined=False, open=(a_deployment(state=state),))
        assert guard.admit(standing, REVISION, force=False) == Join("d1")
        assert guard.admit(standing, OTHER, force=False) == Admit()
        assert guard.admit(standing, None, force=False) == Admit()


def test_a_wish_for_the_tip_joins_a_persons_own_until_that_has_begun() -> None:
    """F95: both get what the branch's tip is then, and neither waits for a deployment that ends superseded."""
    for person, state, answer in (
        (True, State.QUEUED, Join("d1")),
        (True, State.FETCHING, Admit()),  # it may have fetched already, and what was pushed since is wanted
        (False, State.QUEUED, Admit()),
    ):
        standing = Standing(held=False, quarantined=False, open=(a_deployment(state=state, person=person),))
        assert guard.admit(standing, None, force=False) == answer
        assert guard.admit(standing, None, force=True) == Admit()
        assert guard.admit(standing, None, requested="v1", force=False) == Admit()
    named = a_deployment(state=State.QUEUED, person=True, requested="v1")
    assert guard.admit(Standing(held=False, quarantined=False, open=(named,)), None, force=False) == Admit()


def test_a_revision_that_is_being_rolled_back_is_not_joined() -> None:
    standing = Standing(held=False, quarantined=False, open=(a_deployment(state=State.ROLLING_BACK),))
    assert guard.admit(standing, REVISION, force=False) == Admit()


def test_force_joins_only_what_was_forced() -> None:
    for forced, answer in ((False, Admit()), (True, Join("d1"))):
        standing = Standing(held=False, quarantined=False, open=(a_deployment(force=forced),))
        assert guard.admit(standing, REVISION, force=True) == answer


def _at(*minutes: float) -> list[datetime]:
    return [START + timedelta(minutes=minute) for minute in minutes]


def test_the_second_rollback_within_an_hour_holds() -> None:
    """R-RB-4, F71."""
    now = START + timedelta(minutes=60)
    assert not guard.holds(_at(60), now, 2)
    assert guard.holds(_at(1, 60), now, 2)
    assert not guard.holds(_at(0, 60), now, 2), "one exactly an hour ago is outside"


def test_a_clock_that_was_set_back_does_not_open_the_loop() -> None:
    """F53: rollbacks recorded in the future still count."""
    assert guard.holds(_at(500, 10), START + timedelta(minutes=10), 2)


@given(seconds=st.lists(st.integers(-9000, 9000), max_size=12), limit=st.integers(1, 5))
def test_the_hold_depends_only_on_what_ended_within_the_hour_or_later(seconds: list[int], limit: int) -> None:
    ends = [START + timedelta(seconds=number) for number in seconds]
    assert guard.holds(ends, START, limit) == (sum(number > -3600 for number in seconds) >= limit)


def test_a_rollback_that_a_clock_ahead_dated_ended_before_what_came_after_it() -> None:
    """F53: a year ahead, it must not count as the newest for a year."""
    ahead, month = START + timedelta(days=365), START - timedelta(days=30)
    assert guard.dated(ahead, month, START) == month
    assert guard.dated(ahead, None, START) == ahead, "nothing is known behind it: it counts"
    assert guard.dated(month, START, START) == month, "its own record is believed"


def test_the_way_back_is_the_last_confirmed_release_whatever_the_clock_said() -> None:
    """R-RB-1, F53: confirmations are ordered by their number, not by their time."""
    releases = [
        a_release("1-aaaaaaa", confirmed=1, at=90000),
        a_release("2-bbbbbbb", confirmed=3, at=30),
        a_release("3-ccccccc"),
        a_release("4-ddddddd", confirmed=2, at=20),
    ]
    assert [release.name for release in guard.fallbacks(releases, "3-ccccccc")] == [
        "2-bbbbbbb",
        "4-ddddddd",
        "1-aaaaaaa",
    ]
    assert guard.fallbacks(releases[2:3], "3-ccccccc") == []


def test_a_workflow_leads_back_from_what_is_live_only_unless_it_is_held_and_only_if_there_is_a_way() -> None:
    ways = [a_release("1-aaaaaaa", confirmed=1)]
    assert guard.retreat(REVISION, live=REVISION, held=False, ways=ways) == Admit()
    assert guard.retreat(REVISION, live=OTHER, held=True, ways=ways) == Ignore("not-live")
    assert guard.retreat(REVISION, live=None, held=False, ways=ways) == Ignore("not-live")
    assert guard.retreat(None, live=None, held=False, ways=ways) == Ignore("not-live")
    assert guard.retreat(REVISION, live=REVISION, held=True, ways=ways) == Ignore("held")
    assert guard.retreat(REVISION, live=REVISION, held=False, ways=[]) == Ignore("no-fallback")


def test_a_rollback_is_not_renewed_by_a_redelivery() -> None:
    assert not guard.redeploys(a_deployment(state=State.FAILED, fault=Fault.WORLD, target=""))


def test_nothing_goes_back_by_itself_to_a_revision_in_quarantine_unless_it_served_a_moment_ago() -> None:
    """R-RB-1."""
    good = a_release("1-aaaaaaa", confirmed=1)
    left = replace(a_release("2-bbbbbbb", confirmed=2, revision=OTHER), quarantined=True)
    assert guard.fallbacks([good, left], None) == [good]
    assert guard.fallbacks([good, left], None, live=left.name) == [left, good]
    assert guard.fallbacks([good, left], None, unlike=REVISION) == []


def test_a_release_in_quarantine_does_not_cost_the_one_to_go_back_to_its_place() -> None:
    """R-RB-11: what a person left is kept for them, and beside it where a rollback would go."""
    releases = [
        a_release("1-aaaaaaa", confirmed=1),
        a_release("2-bbbbbbb", confirmed=2),
        replace(a_release("3-ccccccc", confirmed=3), quarantined=True),
        a_release("4-ddddddd", confirmed=4),
    ]
    gone = removable(releases, needed=(), live="4-ddddddd", keep=1)
    assert [release.name for release in gone] == ["1-aaaaaaa"]


def test_a_redelivery_renews_only_what_the_world_broke_before_the_switch() -> None:
    broken = a_deployment(state=State.FAILED, fault=Fault.WORLD, steps=(a_step(State.FETCHING),))
    assert guard.redeploys(broken)
    assert guard.redeploys(
        a_deployment(state=State.FAILED, fault=Fault.WORLD, steps=(a_step(State.SWITCHING),))
    ), "a migration that the world stopped has switched nothing"
    cut = a_deployment(state=State.FAILED, fault=Fault.INTERRUPTED)
    assert guard.redeploys(cut)
    for kept in (
        a_deployment(state=State.FAILED, fault=Fault.COMMIT),
        a_deployment(state=State.SUCCEEDED),
        a_deployment(state=State.ROLLED_BACK, fault=Fault.WORLD),
        a_deployment(state=State.FAILED, fault=Fault.WORLD, steps=(a_step(State.ROLLING_BACK),)),
    ):
        assert not guard.redeploys(kept)


@st.composite
def _releases(draw: st.DrawFn) -> list[Release]:
    """Some confirmed, some linking to an earlier confirmed one that built its own."""
    confirmed = st.one_of(st.none(), st.integers(1, 1000))
    ends = draw(st.lists(confirmed, max_size=15, unique_by=lambda value: value or object()))
    found: list[Release] = []
    for number, end in enumerate(ends, start=1):
        lenders = [release.name for release in found if release.confirmed_at and not release.built_by]
        release = a_release(f"{number}-abcdef0", confirmed=end)
        found.append(replace(release, built_by=draw(st.sampled_from(["", *lenders]))))
    return found


@given(releases=_releases(), keep=st.integers(0, 6), data=st.data())
def test_pruning_never_takes_what_a_rollback_needs(
    releases: list[Release], keep: int, data: st.DataObject
) -> None:
    """R-RB-11."""
    names = [release.name for release in releases]
    live = data.draw(st.sampled_from(names) if names else st.none())
    needed = data.draw(st.sets(st.sampled_from(names))) if names else set()
    gone = removable(releases, needed=needed, live=live, keep=keep)
    gone_names = {release.name for release in gone}
    assert live not in gone_names
    assert not gone_names & needed
    left_names = set(names) - gone_names
    by_name = {release.name: release for release in releases}
    lenders = {by_name[name].built_by for name in left_names}
    assert lenders <= left_names | {""}, "what is linked to stays as long as the link"
    order = [release.name for release in gone]
    assert all(
        release.built_by not in order or order.index(release.name) < order.index(release.built_by)
        for release in gone
    ), "a link goes before what it leads to"
    confirmed = [release for release in releases if release.confirmation and release.name != live]
    if confirmed:
        assert max(confirmed, key=lambda release: release.confirmation).name not in gone_names
    kept_for_other = needed | {live} | lenders
    left = [r for r in releases if r.confirmed_at and r.name not in gone_names | kept_for_other]
    assert len(left) <= max(keep, 1)
    unproven = [r for r in releases if not r.confirmed_at and r.name not in gone_names | kept_for_other]
    assert len(unproven) <= 1


def test_of_the_failed_releases_only_the_newest_stays() -> None:
    releases = [
        a_release("1-a", confirmed=1),
        a_release("2-b"),
        a_release("3-c"),
        a_release("4-d", confirmed=2),
    ]
    assert [release.name for release in removable(releases, needed=(), live="4-d", keep=5)] == ["2-b"]


def test_who_built_stays_as_long_as_one_links_to_it() -> None:
    """R-RB-11: also beyond `keep`, and also for what is live."""
    releases = [
        a_release("1-a", confirmed=1),
        a_release("2-b", confirmed=2),
        replace(a_release("3-c", confirmed=3), built_by="1-a"),
        replace(a_release("4-d", confirmed=4), built_by="1-a"),
    ]
    assert [release.name for release in removable(releases, needed=(), live="4-d", keep=1)] == ["2-b"]
    later = [*releases, a_release("5-e", confirmed=5), a_release("6-f", confirmed=6)]
    gone = [release.name for release in removable(later, needed=(), live="6-f", keep=1)]
    assert gone == ["3-c", "4-d", "1-a", "2-b"], "who links goes first"
    needed = [release.name for release in removable(later, needed=("3-c",), live="6-f", keep=1)]
    assert needed == ["4-d", "2-b"]
