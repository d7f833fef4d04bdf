"""The queue of a service, and how it goes on after every kind of interruption."""

import asyncio
from collections.abc import Callable

import pytest

from agent.core import patience
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Fault, State
from tests.services.workshop import AFTER_SWITCH, SERVICE, Killed, Workshop, a_workshop

# --- the queue


async def test_of_many_pushes_the_newest_runs_and_the_rest_is_superseded(shop: Workshop) -> None:
    """R-RX-25, F48."""
    pushed = [await shop.push() for _ in range(10)]
    assert await shop.work()
    ends = [item.state for item in await shop.all()]
    assert ends == [State.SUCCEEDED] + [State.SUPERSEDED] * 9
    assert (await shop.of(pushed[-1])).state is State.SUCCEEDED
    assert len(shop.saves.made) == 1
    await shop.check()


async def test_a_push_during_a_deployment_waits_for_its_end(shop: Workshop) -> None:
    """R-RX-25, R-RB-10."""
    await shop.deploy()
    begun, go_on = asyncio.Event(), asyncio.Event()
    build = shop.site.builder.build

    async def slow(*_: object, **__: object) -> str:
        begun.set()
        await go_on.wait()
        return "slow"

    first = await shop.push()
    async with shop.agent() as task:
        shop.site.builder.build = slow  # type: ignore[method-assign]  # this once
        await begun.wait()
        assert shop.lane.busy
        later = [await shop.push() for _ in range(3)]
        assert (await shop.of(later[-1])).state is State.QUEUED
        shop.site.builder.build = build  # type: ignore[method-assign]
        go_on.set()
        assert await shop.idle(task)
    assert (await shop.of(first)).state is State.SUCCEEDED
    assert [(await shop.of(revision)).state for revision in later] == [
        State.SUPERSEDED, State.SUPERSEDED, State.SUCCEEDED,
    ]  # fmt: skip
    await shop.check()


async def test_a_build_waits_for_its_turn_and_is_not_stuck_meanwhile(shop: Workshop) -> None:
    """Isolated builds of all services are one user, who could get at another build that goes on."""
    async with shop.agent() as task:
        async with shop.site.turn:
            revision = await shop.push()
            async with asyncio.timeout(60):
                while shop.heartbeat.doing() != {"lane": "waiting to build"}:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.002)
            shop.clock.advance(patience.DATA - 1)
            assert shop.heartbeat.broken() == ()
            waits = await shop.of(revision)
            assert waits.state is State.BUILDING
            assert shop.disk.ran == []
        assert await shop.idle(task)
    assert (await shop.of(revision)).state is State.SUCCEEDED
    assert shop.disk.ran == [f"build {waits.release}"]


async def test_a_wake_up_that_came_while_it_worked_is_not_lost(shop: Workshop) -> None:
    async with shop.agent() as task:
        for _ in range(5):
            await shop.idle(task)
            await shop.push()
        await shop.idle(task)
        assert {item.state for item in await shop.all()} == {State.SUCCEEDED}


async def test_a_lane_at_rest_rests(shop: Workshop) -> None:
    async with shop.agent() as task:
        await shop.idle(task)
        await shop.push()
        await shop.idle(task)
        before = len(shop.wire.passed)
        await asyncio.sleep(0.05)
        assert len(shop.wire.passed) <= before + 1, "the wake-up itself may cost one look more"


async def test_a_wake_up_that_was_lost_delays_it_only(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.services.lanes.LOOK_SECONDS", 0.02)
    async with shop.agent() as task:
        await shop.idle(task)
        monkeypatch.setattr(shop.lane, "wake", lambda: None)
        revision = await shop.push()
        async with asyncio.timeout(60):
            while (await shop.of(revision)).state is not State.SUCCEEDED:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


async def test_what_is_held_between_the_queue_and_the_claim_waits_for_the_resume(shop: Workshop) -> None:
    """R-RB-4."""
    await shop.deploy()
    revision = await shop.push()
    await shop.services.hold(SERVICE, actor="me")
    assert await shop.work()
    assert (await shop.of(revision)).state is State.QUEUED
    await shop.resume()
    assert await shop.work()
    assert (await shop.of(revision)).state is State.SUCCEEDED
    await shop.check()


async def test_force_passes_a_hold(shop: Workshop) -> None:
    await shop.deploy()
    await shop.services.hold(SERVICE, actor="me")
    waiting = await shop.push()
    forced = await shop.ask(force=True)
    assert await shop.work()
    assert (await shop.all())[0].id == forced.id
    assert (await shop.all())[0].state is State.SUCCEEDED
    assert waiting not in [item.revision for item in await shop.all() if item.state is State.QUEUED]
    assert await shop.held()
    await shop.check()


async def test_the_second_rollback_within_an_hour_holds_the_service(shop: Workshop) -> None:
    """R-RB-4, F71."""
    await shop.deploy()
    await shop.deploy("sick")
    shop.clock.advance(600)
    assert not await shop.held()
    await shop.deploy("crash")
    assert await shop.held()
    fix = await shop.push()
    assert await shop.work()
    assert fix not in [item.revision for item in await shop.all()]
    admitted = await shop.resume()
    assert admitted is not None
    assert await shop.work()
    assert (await shop.of(fix)).state is State.SUCCEEDED
    assert not await shop.held()
    await shop.check()


async def test_a_broken_rollback_counts_as_well(shop: Workshop) -> None:
    target = await shop.deploy()
    shop.runtime.moods[target.release or ""] = "sick"
    for _ in range(2):
        assert (await shop.deploy("crash")).state is State.BROKEN
    assert await shop.held()


# --- after a stop, a kill, a reboot


async def test_after_a_reboot_what_is_live_runs_again(shop: Workshop) -> None:
    good = await shop.deploy()
    shop.runtime.reboot()
    assert await shop.work()
    assert shop.runtime.running is not None
    assert shop.runtime.running.release == good.release
    await shop.check()


async def test_what_is_live_runs_before_a_build_that_was_cut_off_goes_on(shop: Workshop) -> None:
    """F11: after a power cut the router may need minutes; the service does not wait for git."""
    good = await shop.deploy()
    shop.wire.raises("building/builder.build/1", "before", Killed)
    await shop.push()
    assert not await shop.work()
    shop.runtime.reboot()
    shop.wire.forget()
    seen: list[bool] = []
    shop.wire.trip(
        "building/releases.begin/1", "before", lambda: seen.append(shop.runtime.running is not None)
    )
    assert await shop.work()
    assert seen == [True]
    assert shop.runtime.acts[1] == f"start {good.release}"
    await shop.check()


async def test_a_live_release_that_cannot_be_started_does_not_stop_the_lane(shop: Workshop) -> None:
    good = await shop.deploy()
    shop.runtime.reboot()
    shop.runtime.moods[good.release or ""] = "unstartable"
    assert (await shop.deploy()).state is State.SUCCEEDED
    await shop.check()


async def killed(shop: Workshop, times: int, place: str) -> None:
    """The agent dies so often at this act (and is started again each time)."""
    shop.wire.raises(place, "before", Killed, times)
    for _ in range(times):
        assert not await shop.work()
    assert await shop.work()
    assert len(shop.wire.done) == times


@pytest.mark.parametrize(
    "act", ["fetching/source.fetch", "building/builder.build", "backing_up/saves.create_locked"]
)
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_the_third_interruption_before_the_switch_ends_it(shop: Workshop, act: str, times: int) -> None:
    """F6: without quarantine, and nothing live was touched."""
    await shop.deploy()
    before = list(shop.runtime.acts)
    revision = await shop.push()
    await killed(shop, times, f"{act}/1")
    ended = await shop.of(revision)
    if times < 3:
        assert (ended.state, ended.fault) == (State.SUCCEEDED, None)
    else:
        assert (ended.state, ended.reason, ended.fault) == (State.FAILED, "interrupted", Fault.INTERRUPTED)
        assert shop.runtime.acts == before
    assert not await shop.quarantined(revision)
    assert not await shop.held()
    await shop.check()


@pytest.mark.parametrize("act", ["switching/runtime.stop", "switching/runtime.start", "verifying/probe.ask"])
@pytest.mark.parametrize("times", [1, 2])
async def test_the_second_interruption_after_the_switch_goes_back(
    shop: Workshop, act: str, times: int
) -> None:
    """F11: without quarantine, and the guard does not count it."""
    good = await shop.deploy()
    revision = await shop.push()
    await killed(shop, times, f"{act}/1")
    ended = await shop.of(revision)
    if times < 2:
        assert (ended.state, ended.fault) == (State.SUCCEEDED, None)
    else:
        assert (ended.state, ended.reason, ended.fault) == (
            State.ROLLED_BACK, "interrupted", Fault.INTERRUPTED,
        )  # fmt: skip
        assert await shop.live() == good.release
    assert not await shop.quarantined(revision)
    await shop.check()


async def test_interruptions_before_the_switch_do_not_count_after_it(shop: Workshop) -> None:
    await shop.deploy()
    revision = await shop.push()
    shop.wire.raises("building/builder.build/1", "before", Killed, times=2)
    shop.wire.raises("verifying/probe.ask/1", "before", Killed)
    for _ in range(3):
        assert not await shop.work()
    assert await shop.work()
    assert (await shop.of(revision)).state is State.SUCCEEDED
    await shop.check()


async def test_going_back_is_finished_however_often_it_is_cut_off(shop: Workshop) -> None:
    """F12, R-RB-10."""
    good = await shop.deploy()
    revision = await shop.push("sick")
    await killed(shop, 6, "rolling_back/releases.verify/1")
    ended = await shop.of(revision)
    assert (ended.state, ended.reason) == (State.ROLLED_BACK, "health-timeout")
    assert await shop.live() == good.release
    assert await shop.quarantined(revision)
    await shop.check()


@pytest.mark.parametrize("act", ["building/builder.build", "switching/runtime.stop", "verifying/probe.ask"])
async def test_an_agent_that_is_stopped_in_order_costs_no_interruption(shop: Workshop, act: str) -> None:
    await shop.deploy()
    revision = await shop.push()
    done = False
    while not done and len(shop.wire.done) < 5:
        async with shop.agent() as task:
            shop.wire.trip(f"{act}/1", "before", lambda task=task: task.cancel())  # type: ignore[misc]
            done = await shop.idle(task)
    assert shop.wire.done
    assert await shop.work()
    assert (await shop.of(revision)).interruptions == 0
    assert (await shop.of(revision)).state is State.SUCCEEDED
    await shop.check()


@pytest.mark.parametrize("act", ["verifying/probe.ask", "verifying/journal.advance"])
async def test_a_verification_that_a_reboot_cut_off_starts_the_process_again(
    shop: Workshop, act: str
) -> None:
    """F11: its end was not the commit's fault."""
    await shop.deploy()
    revision = await shop.push()
    shop.wire.raises(f"{act}/1", "before", Killed)
    assert not await shop.work()
    shop.runtime.reboot()
    assert await shop.work()
    assert (await shop.of(revision)).state is State.SUCCEEDED
    await shop.check()


async def test_a_process_that_dies_by_itself_during_the_verification_is_the_commits_fault(
    shop: Workshop,
) -> None:
    await shop.deploy()
    revision = await shop.push()
    shop.wire.trip("verifying/probe.ask/2", "before", shop.runtime.die)
    assert await shop.work()
    ended = await shop.of(revision)
    assert (ended.state, ended.reason) == (State.ROLLED_BACK, "process-died")
    await shop.check()


# --- the journal fails for a while


@pytest.mark.parametrize("interruptions", [1, 2])
async def test_a_journal_that_fails_after_a_recovery_is_no_interruption(
    shop: Workshop, interruptions: int
) -> None:
    """What was cut off during the build is switched and verified later: a full disk then is not a second cut."""
    await shop.deploy()
    revision = await shop.push()
    shop.wire.raises("building/builder.build/1", "before", Killed, interruptions)
    for _ in range(interruptions):
        assert not await shop.work()
    for state in ("switching", "verifying"):
        shop.wire.raises(f"{state}/journal.advance/1", "before", full)
    assert await shop.work()
    assert (await shop.of(revision)).state is State.SUCCEEDED
    await shop.check()


async def test_what_died_is_not_started_again_because_the_journal_failed(shop: Workshop) -> None:
    """Only who was interrupted in the verification may have lost its process through no fault of its own."""
    await shop.deploy()
    revision = await shop.push("crash")
    shop.wire.raises("building/builder.build/1", "before", Killed)
    assert not await shop.work()
    shop.wire.raises("verifying/journal.advance/1", "before", full, times=3)
    assert await shop.work()
    ended = await shop.of(revision)
    assert (ended.state, ended.reason) == (State.ROLLED_BACK, "process-died")
    assert shop.runtime.acts.count(f"start {ended.release}") == 1
    await shop.check()


async def test_a_journal_that_can_neither_be_written_nor_read_is_waited_for(shop: Workshop) -> None:
    await shop.deploy()
    revision = await shop.push()
    shop.wire.raises("verifying/journal.advance/1", "before", full)
    shop.wire.raises("verifying/journal.deployment/1", "before", full, times=5)
    assert await shop.work()
    ended = await shop.of(revision)
    assert (ended.state, ended.interruptions) == (State.SUCCEEDED, 0)
    await shop.check()


def full() -> Unavailable:
    return Unavailable("store-unavailable", "database or disk is full")


# --- old releases


async def test_old_releases_go_and_what_a_rollback_needs_stays() -> None:
    """R-RB-11."""
    async with a_workshop(deploy={"keep_releases": 1}) as shop:
        for _ in range(5):
            await shop.deploy()
        assert [name.split("-")[0] for name in await shop.releases.names()] == ["4", "5"]
        assert [item.name.split("-")[0] for item in await shop.journal.releases(SERVICE)] == ["4", "5"]
        bad = await shop.deploy("sick")
        assert bad.state is State.ROLLED_BACK
        left = [name.split("-")[0] for name in await shop.releases.names()]
        assert left == ["4", "5", "6"], "the newest that failed stays, for whoever wants to look why"
        await shop.check()


async def test_without_keeping_any_there_is_still_one_to_go_back_to() -> None:
    """R-RB-11."""
    async with a_workshop(deploy={"keep_releases": 0}) as shop:
        good = [await shop.deploy() for _ in range(3)]
        assert (await shop.deploy("sick")).state is State.ROLLED_BACK
        assert await shop.live() == good[-1].release
        await shop.check()


@pytest.mark.parametrize(
    "act",
    ["releases.remove", "journal.forget_release", "releases.current", "journal.releases", "services.live"],
)
@pytest.mark.parametrize("error", [full, lambda: StepFailed("disk-failed", "the disk refuses")])
async def test_releases_that_cannot_be_removed_cost_no_deployment(
    act: str, error: Callable[[], BaseException]
) -> None:
    async with a_workshop(deploy={"keep_releases": 1}) as shop:
        for _ in range(2):
            await shop.deploy()
        shop.wire.raises(f"ended/{act}/1", "before", error, times=2)
        for _ in range(2):
            assert (await shop.deploy()).state is State.SUCCEEDED
            await shop.check()
        assert len(shop.wire.done) == 2
        await shop.deploy()
        assert len(await shop.releases.names()) == 2, "the next one catches up"


# --- the agent is stopped in the middle of the switch


async def points(mood: str, before: int = 1) -> list[str]:
    """Every act of a deployment of this mood, in order."""
    async with a_workshop() as shop:
        for _ in range(before):
            await shop.deploy()
        shop.wire.forget()
        await shop.deploy(mood)
        return [place for place in shop.wire.passed if not place.startswith("idle/")]


@pytest.mark.parametrize("mood", ["good", "sick"])
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("cancels", [1, 2])
async def test_stopping_the_agent_never_leaves_the_service_without_a_process(
    mood: str, phase: str, cancels: int
) -> None:
    """R-SD-7: at every act from the switch on; a second SIGTERM does not make it worse."""
    places = [place for place in await points(mood) if place.split("/")[0] in AFTER_SWITCH]
    assert len(places) > 10
    for place in places:
        async with a_workshop() as shop:
            await shop.deploy()
            revision = await shop.push(mood)
            async with shop.agent() as task:

                def stop(task: "asyncio.Task[None]" = task) -> None:
                    task.cancel()
                    if cancels == 2:
                        for delay in range(1, 12):
                            later(delay, task.cancel)

                shop.wire.trip(place, phase, stop)
                await shop.idle(task)
                assert shop.wire.done, place
                await asyncio.wait({task})
                assert shop.runtime.running is not None, f"{place}@{phase}: {shop.runtime.acts}"
                await nothing_left(place)
            assert await shop.work()
            expected = State.SUCCEEDED if mood == "good" else State.ROLLED_BACK
            assert (await shop.of(revision)).state is expected, f"{place}@{phase}"
            await shop.check()


def later(turns: int, act: Callable[[], object]) -> None:
    """Does it so many turns of the loop from now."""
    loop = asyncio.get_running_loop()
    if turns == 0:
        act()
    else:
        loop.call_soon(later, turns - 1, act)


async def nothing_left(place: str) -> None:
    """No task of the agent goes on behind its back."""
    left = [str(task) for task in asyncio.all_tasks() if "replace" in str(task.get_coro())]
    assert left == [], place
