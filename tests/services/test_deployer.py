"""How a deployment ends, way by way: the real deployer, lane and store over fakes of the outside."""

from datetime import timedelta

import pytest

from agent.core.backoff import PASSING, PAUSES
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Deployment, Fault, State
from tests.fakes import START
from tests.services.workshop import Workshop, a_workshop

STRAIGHT = ["queued", "fetching", "building", "backing_up", "switching", "verifying"]


def no(code: str, fault: Fault | None = None) -> StepFailed:
    return StepFailed(code, "it cannot be done", fault=fault, output="its output")


def told(deployment: Deployment) -> tuple[State, str, Fault | None]:
    return deployment.state, deployment.reason, deployment.fault


def steps(deployment: Deployment) -> list[str]:
    return [str(step.name) for step in deployment.steps]


# --- the good way


async def test_a_good_push_goes_live(shop: Workshop) -> None:
    first = await shop.deploy()
    assert told(first) == (State.SUCCEEDED, "", None)
    assert steps(first) == STRAIGHT
    second = await shop.deploy()
    assert told(second) == (State.SUCCEEDED, "", None)
    assert await shop.live() == second.release
    assert second.previous == first.revision
    assert shop.runtime.acts == [f"start {first.release}", f"stop {first.release}", f"start {second.release}"]
    await shop.check()


async def test_the_backup_is_made_between_the_build_and_the_switch_and_names_what_is_live(
    shop: Workshop,
) -> None:
    first = await shop.deploy()
    second = await shop.deploy()
    assert [backup.deployment for backup in shop.saves.made] == [first.id, second.id]
    assert [backup.revision for backup in shop.saves.made] == [None, first.revision]
    assert (first.backup, second.backup) == ("b1", "b2")


async def test_without_a_backup_the_release_is_still_read_back() -> None:
    async with a_workshop(backup={"before_deploy": "off"}) as shop:
        shop.wire.raises("backing_up/releases.verify/1", "before", lambda: no("release-damaged", Fault.WORLD))
        assert told(await shop.deploy()) == (State.FAILED, "release-damaged", Fault.WORLD)
        assert shop.saves.made == []
        await shop.check()


async def test_the_output_of_the_build_is_kept(shop: Workshop) -> None:
    deployment = await shop.deploy(build="say one\nsay two")
    assert await shop.journal.output(deployment.id) == "--- building\none\ntwo\n"


# --- back


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("sick", "health-timeout"),
        ("crash", "process-died"),
        ("unstartable", "start-failed"),
        ("late", "soak-failed"),
    ],
)
async def test_a_bad_push_is_rolled_back_and_quarantined(mood: str, reason: str) -> None:
    """R-RB-1, R-RB-2, F62, F63."""
    async with a_workshop(health={"every": 2, "timeout": 20, "successes": 2, "soak": 10}) as shop:
        good = await shop.deploy()
        bad = await shop.deploy(mood)
        assert told(bad) == (State.ROLLED_BACK, reason, Fault.COMMIT)
        assert await shop.live() == good.release
        assert await shop.quarantined(bad.revision or "")
        assert "serves" in bad.steps[-1].detail
        await shop.check()


async def test_what_the_service_printed_is_in_the_report(shop: Workshop) -> None:
    await shop.deploy()
    bad = await shop.deploy("sick")
    assert f"--- verifying\n{bad.release} is sick\n" in (await shop.journal.output(bad.id) or "")


async def test_the_way_back_needs_neither_network_nor_build_nor_backup(shop: Workshop) -> None:
    await shop.deploy()
    await shop.deploy("sick")
    back = [name for name in shop.wire.passed if name.startswith("rolling_back/")]
    assert back
    assert not [name for name in back if name.split("/")[1].split(".")[0] in ("source", "builder", "saves")]


async def test_a_damaged_release_is_passed_over_on_the_way_back(shop: Workshop) -> None:
    """R-RB-1, F97: to the next confirmed one that reads back intact."""
    oldest, last = await shop.deploy(), await shop.deploy()
    del shop.disk.trees[shop.releases.path(last.release or "")]["n"]
    bad = await shop.deploy("sick")
    assert bad.state is State.ROLLED_BACK
    assert await shop.live() == oldest.release
    await shop.check()


async def test_the_live_release_that_was_merely_edited_is_gone_back_to(shop: Workshop) -> None:
    """It served like that until a moment ago; an older one that is as it was built would be a step back."""
    _, live = await shop.deploy(), await shop.deploy()
    shop.disk.trees[shop.releases.path(live.release or "")]["n"] = "edited"
    assert (await shop.deploy("sick")).state is State.ROLLED_BACK
    assert await shop.live() == live.release


async def test_what_failed_its_way_back_is_deployed_once_more_when_it_is_asked_for(shop: Workshop) -> None:
    """It is live by name only: a person who asks for it gets more than `already-live`."""
    target = await shop.deploy()
    shop.runtime.moods[target.release or ""] = "sick"
    assert (await shop.deploy("crash")).state is State.BROKEN
    await shop.ask(target.revision)
    assert await shop.work()
    assert told((await shop.all())[0]) == (State.SUCCEEDED, "", None)
    await shop.check()


async def test_when_all_have_drifted_the_last_one_that_is_there_serves(shop: Workshop) -> None:
    """A service that edits its own files is better than none."""
    releases = [await shop.deploy(), await shop.deploy()]
    for deployment in releases:
        shop.disk.trees[shop.releases.path(deployment.release or "")]["n"] = "edited"
    bad = await shop.deploy("sick")
    assert bad.state is State.ROLLED_BACK
    assert await shop.live() == releases[-1].release
    assert (await shop.releases.current()) == releases[-1].release


async def test_an_unconfirmed_release_is_never_gone_back_to(shop: Workshop) -> None:
    """R-RB-1."""
    good = await shop.deploy()
    await shop.deploy("sick")
    await shop.deploy("crash")
    assert await shop.live() == good.release
    starts = [act for act in shop.runtime.acts if act.startswith("start")]
    assert [start.split()[1].split("-")[0] for start in starts] == ["1", "2", "1", "3", "1"]


async def test_the_way_back_leads_to_what_was_live_also_after_the_clock_was_set_back(shop: Workshop) -> None:
    """F53: a Pi without a clock confirms its newest release at a time before that of the older ones."""
    await shop.deploy()
    shop.clock.set_wall(START - timedelta(days=300))
    live = await shop.deploy()
    bad = await shop.deploy("sick")
    assert bad.state is State.ROLLED_BACK
    assert await shop.live() == live.release
    await shop.check()


async def test_without_anything_to_go_back_to_it_is_stopped(shop: Workshop) -> None:
    """R-RB-1, F69."""
    bad = await shop.deploy("sick")
    assert told(bad) == (State.FAILED, "no-fallback", Fault.COMMIT)
    assert (await shop.live(), await shop.releases.current(), shop.runtime.running) == (None, None, None)
    assert await shop.quarantined(bad.revision or "")
    await shop.check()
    assert (await shop.deploy()).state is State.SUCCEEDED


async def test_a_rollback_whose_target_is_sick_is_broken_and_not_rolled_back_again(shop: Workshop) -> None:
    """R-RB-5, F68."""
    await shop.deploy()
    target = await shop.deploy()
    shop.runtime.moods[target.release or ""] = "sick"
    bad = await shop.deploy("crash")
    assert told(bad) == (State.BROKEN, "rollback-failed", Fault.COMMIT)
    assert "process ended" not in bad.steps[-1].detail
    assert (
        f"after process-died: not healthy within 20 s; last: {target.release} is sick" in bad.steps[-1].detail
    )
    assert await shop.live() == target.release == await shop.releases.current()
    assert shop.runtime.running is not None, "it is left on the target"
    verdicts = [name for name in shop.wire.passed if name.startswith("rolling_back/runtime.output")]
    assert len(verdicts) == 1, "a verdict about the target is not asked for again"
    assert shop.runtime.acts[-1] == f"start {target.release}"
    assert await shop.quarantined(bad.revision or "")
    await shop.check()


async def test_a_broken_service_takes_the_next_good_push(shop: Workshop) -> None:
    target = await shop.deploy()
    shop.runtime.moods[target.release or ""] = "unstartable"
    assert (await shop.deploy("sick")).state is State.BROKEN
    assert shop.runtime.running is None
    good = await shop.deploy()
    assert good.state is State.SUCCEEDED
    assert await shop.live() == good.release
    await shop.check()


@pytest.mark.parametrize("act", ["releases.names", "runtime.look", "releases.current"])
async def test_a_rollback_that_the_world_stops_keeps_the_commits_fault(shop: Workshop, act: str) -> None:
    """What the commit did wrong is not forgotten because the disk failed as well: R-RB-2."""
    await shop.deploy()
    shop.wire.raises(f"rolling_back/{act}/1", "before", lambda: no("disk-failed"), times=9)
    bad = await shop.deploy("sick")
    assert told(bad) == (State.BROKEN, "rollback-failed", Fault.COMMIT)
    assert await shop.quarantined(bad.revision or "")
    assert "after health-timeout" in bad.steps[-1].detail


@pytest.mark.parametrize("act", ["runtime.stop", "releases.clear"])
async def test_what_cannot_be_stopped_without_a_fallback_is_broken(shop: Workshop, act: str) -> None:
    shop.wire.raises(f"rolling_back/{act}/1", "before", lambda: no("runtime-failed"), times=3)
    bad = await shop.deploy("sick")
    assert told(bad) == (State.BROKEN, "rollback-failed", Fault.COMMIT)
    assert await shop.quarantined(bad.revision or "")
    assert await shop.live() is None


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "act", ["releases.names", "releases.point", "runtime.stop", "runtime.start", "runtime.look"]
)
async def test_what_the_world_refuses_on_the_way_back_is_tried_again(
    shop: Workshop, act: str, times: int
) -> None:
    good = await shop.deploy()
    shop.wire.raises(f"rolling_back/{act}/1", "before", lambda: no("runtime-failed"), times)
    bad = await shop.deploy("sick")
    assert told(bad) == (State.ROLLED_BACK, "health-timeout", Fault.COMMIT)
    assert await shop.live() == good.release
    assert len(shop.wire.done) == times
    await shop.check()


# --- the world's failures


@pytest.mark.parametrize("act", ["releases.point", "runtime.stop", "runtime.start"])
@pytest.mark.parametrize("phase", ["before", "after"])
async def test_what_the_world_breaks_at_the_switch_is_rolled_back_without_blame(
    shop: Workshop, act: str, phase: str
) -> None:
    """R-RB-6: no quarantine, and the guard does not count it."""
    good = await shop.deploy()
    for _ in range(3):
        shop.wire.forget()
        shop.wire.raises(f"switching/{act}/1", phase, lambda: no("runtime-failed"))
        bad = await shop.deploy()
        assert told(bad) == (State.ROLLED_BACK, "runtime-failed", Fault.WORLD)
        assert not await shop.quarantined(bad.revision or "")
        assert await shop.live() == good.release
        await shop.check()
    assert not await shop.held()


async def test_a_switch_that_did_not_get_far_costs_the_service_nothing(shop: Workshop) -> None:
    await shop.deploy()
    shop.wire.raises("switching/runtime.stop/1", "before", lambda: no("runtime-failed"))
    before = shop.runtime.running
    assert (await shop.deploy()).state is State.ROLLED_BACK
    assert shop.runtime.running == before


TRIES = dict.fromkeys(PASSING, len(PAUSES))
"""So often it is tried again by itself: `test_persistence`."""

BEFORE_THE_SWITCH = {
    "fetching/releases.ready": "disk-full",
    "fetching/source.fetch": "git-unreachable",
    "building/releases.begin": "disk-failed",
    "building/source.lay_out": "git-timeout",
    "building/releases.snapshot": "disk-failed",
    "building/releases.share": "not-writable",
    "building/builder.build": "disk-full",
    "building/releases.seal": "disk-full",
    "backing_up/saves.create_locked": "backup-bad",
}


@pytest.mark.parametrize(("act", "code"), BEFORE_THE_SWITCH.items())
async def test_what_the_world_breaks_before_the_switch_costs_nothing(
    shop: Workshop, act: str, code: str
) -> None:
    """R-RB-6: failed, no quarantine, nothing live was touched; and the same delivery queues it again."""
    await shop.deploy()
    before = (shop.runtime.running, list(shop.runtime.acts), shop.releases.link)
    shop.wire.raises(f"{act}/1", "before", lambda: no(code), times=1 + TRIES.get(code, 0))
    bad = await shop.deploy()
    assert told(bad) == (State.FAILED, code, Fault.WORLD)
    assert (shop.runtime.running, shop.runtime.acts, shop.releases.link) == before
    assert not await shop.quarantined(bad.revision or "")
    assert bad.hint
    await shop.check()
    await shop.deliver(bad.revision or "")
    assert await shop.work()
    assert told(await shop.of(bad.revision or "")) == (State.SUCCEEDED, "", None)


@pytest.mark.parametrize(
    ("build", "reason"),
    [("say one\nfail", "build-failed"), ("say one\nhang", "build-timeout"), ("remove n", "release-damaged")],
)
async def test_a_build_that_fails_quarantines_and_leaves_the_service_alone(
    shop: Workshop, build: str, reason: str
) -> None:
    """R-RB-2, F72, F73."""
    await shop.deploy()
    before = (list(shop.runtime.acts), len(shop.saves.made))
    bad = await shop.deploy(build=build)
    assert told(bad) == (State.FAILED, reason, Fault.COMMIT)
    assert await shop.quarantined(bad.revision or "")
    assert (shop.runtime.acts, len(shop.saves.made)) == before
    assert not await shop.held(), "a build costs nothing, so the guard does not count it"
    await shop.check()


async def test_a_program_that_is_not_there_is_found_while_the_old_one_serves(shop: Workshop) -> None:
    await shop.deploy()
    acts = list(shop.runtime.acts)
    bad = await shop.deploy("missing")
    assert told(bad) == (State.FAILED, "start-failed", Fault.COMMIT)
    assert await shop.quarantined(bad.revision or "")
    assert shop.runtime.acts == acts
    await shop.check()


async def test_a_busy_backup_store_is_waited_for(shop: Workshop) -> None:
    shop.wire.raises(
        "backing_up/saves.create_locked/1", "before", lambda: Unavailable("backup-busy", "another"), times=4
    )
    assert (await shop.deploy()).state is State.SUCCEEDED
    assert len(shop.saves.made) == 1


# --- which revision


async def test_what_is_live_already_is_left_alone(shop: Workshop) -> None:
    good = await shop.deploy()
    acts = list(shop.runtime.acts)
    await shop.ask()
    assert await shop.work()
    again = (await shop.all())[0]
    assert (again.state, again.reason, again.revision) == (State.SUCCEEDED, "already-live", good.revision)
    assert steps(again) == ["queued", "fetching"]
    assert shop.runtime.acts == acts
    await shop.check()


async def test_force_deploys_what_is_live_once_more(shop: Workshop) -> None:
    good = await shop.deploy()
    await shop.ask(force=True)
    assert await shop.work()
    again = (await shop.all())[0]
    assert (again.state, again.reason, again.revision) == (State.SUCCEEDED, "", good.revision)
    assert again.release != good.release
    await shop.check()


async def test_a_tip_that_is_in_quarantine_is_found_when_it_is_fetched(shop: Workshop) -> None:
    """R-RB-2, F70: the wish named no revision, so only the fetch can tell."""
    await shop.deploy()
    bad = await shop.deploy("sick")
    acts = list(shop.runtime.acts)
    for _ in range(3):
        await shop.ask()
        assert await shop.work()
        again = (await shop.all())[0]
        assert told(again) == (State.FAILED, "quarantined", Fault.WORLD)
        assert again.id != bad.id
    assert shop.runtime.acts == acts
    assert not await shop.held()
    await shop.check()


async def test_force_deploys_what_is_in_quarantine_and_its_success_lifts_it(shop: Workshop) -> None:
    """R-RB-2."""
    await shop.deploy()
    bad = await shop.deploy("sick")
    shop.runtime.moods["3-" + (bad.revision or "")[:7]] = "good"
    await shop.ask(bad.revision, force=True)
    assert await shop.work()
    again = (await shop.all())[0]
    assert told(again) == (State.SUCCEEDED, "", None)
    assert not await shop.quarantined(bad.revision or "")
    await shop.check()


async def test_a_person_may_name_an_older_commit(shop: Workshop) -> None:
    """R-RB-3."""
    old, _ = await shop.deploy(), await shop.deploy()
    await shop.ask((old.revision or "")[:10])
    assert await shop.work()
    again = (await shop.all())[0]
    assert (again.state, again.revision) == (State.SUCCEEDED, old.revision)
    assert await shop.live() == again.release
    await shop.check()


async def test_a_name_that_nobody_knows_ends_it(shop: Workshop) -> None:
    await shop.deploy()
    await shop.ask("nowhere")
    assert await shop.work()
    assert told((await shop.all())[0]) == (State.FAILED, "revision-unknown", Fault.WORLD)
    await shop.check()


async def test_the_tip_of_now_is_deployed_whatever_the_delivery_named(shop: Workshop) -> None:
    first = await shop.push()
    tip = shop.remote.commit({"n": "newer"})
    assert await shop.work()
    assert [(item.revision, item.state) for item in await shop.all()] == [(tip, State.SUCCEEDED)]
    await shop.deliver(first, b"another body")
    assert await shop.work()
    assert (await shop.all())[0].reason == "already-live"
