"""Going back: by hand, by a failed workflow's word, and to a release that must first be built."""

import pytest

from agent.core.errors import StepFailed
from agent.core.model import Deployment, Fault, State
from tests.services.workshop import SERVICE, Killed, Workshop, a_workshop


def no(code: str, fault: Fault | None = None) -> StepFailed:
    return StepFailed(code, "it cannot be done", fault=fault)


def told(deployment: Deployment) -> tuple[State, str, Fault | None]:
    return deployment.state, deployment.reason, deployment.fault


def steps(deployment: Deployment) -> list[str]:
    return [str(step.name) for step in deployment.steps]


async def gone_back(shop: Workshop, to: str | None = None) -> Deployment:
    """A person's rollback, to its end."""
    made = await shop.go_back(to)
    assert await shop.work()
    return await shop.again(made)


def tree(shop: Workshop, deployment: Deployment) -> dict[str, str]:
    return shop.disk.trees[shop.releases.path(deployment.release or "")]


def built(shop: Workshop) -> list[str]:
    """What was built on ways back."""
    return [act for act in shop.wire.passed if act.startswith("rolling_back/builder")]


async def lose(shop: Workshop, *deployments: Deployment) -> None:
    """Somebody removes releases from the disk, behind the agent's back."""
    for deployment in deployments:
        if shop.releases.link == deployment.release:
            shop.releases.link = None
        await shop.releases.remove(deployment.release or "")


# --- by hand


async def test_a_person_goes_back_to_what_was_live_before(shop: Workshop) -> None:
    """R-RB-10: a deployment of its own, without network, build and backup."""
    first, second = await shop.deploy(), await shop.deploy()
    shop.wire.forget()
    shop.remote.gone = True
    back = await gone_back(shop)
    assert told(back) == (State.SUCCEEDED, "", None)
    assert steps(back) == ["queued", "rolling_back"]
    assert [step.state for step in back.steps] == ["done", "done"]
    assert (back.revision, back.previous, back.release) == (first.revision, second.revision, first.release)
    assert (back.trigger.kind, back.trigger.actor) == ("manual", "me")
    assert await shop.live() == first.release
    assert not [
        act for act in shop.wire.passed if act.split("/")[1].split(".")[0] in ("source", "builder", "saves")
    ]
    await shop.check()


async def test_a_person_names_any_kept_release(shop: Workshop) -> None:
    """R-RB-10."""
    first, _, _ = [await shop.deploy() for _ in range(3)]
    back = await gone_back(shop, first.release)
    assert told(back) == (State.SUCCEEDED, "", None)
    assert await shop.live() == first.release
    await shop.check()


async def test_a_person_may_name_a_release_that_never_proved_itself_and_it_must_do_so_now(
    shop: Workshop,
) -> None:
    await shop.deploy()
    bad = await shop.deploy("sick")
    shop.runtime.moods[bad.release or ""] = "good"
    back = await gone_back(shop, bad.release)
    assert told(back) == (State.SUCCEEDED, "", None)
    assert await shop.live() == bad.release
    assert not await shop.quarantined(bad.revision or ""), "a person says that it is good"
    await shop.check()


@pytest.mark.parametrize("damage", ["edited", "lost file", "gone", "unknown", "no name"])
async def test_a_release_that_is_not_whole_is_refused_and_nothing_is_touched(
    shop: Workshop, damage: str
) -> None:
    """R-RB-10: refuses a wrong tree hash."""
    first, second = await shop.deploy(), await shop.deploy()
    name = first.release or ""
    match damage:
        case "edited":
            tree(shop, first)["n"] = "edited"
        case "lost file":
            del tree(shop, first)["n"]
        case "gone":
            await lose(shop, first)
        case "unknown":
            name = "99-abcdef0"
        case _:
            name = "nonsense"
    running, acts = shop.runtime.running, list(shop.runtime.acts)
    back = await gone_back(shop, name)
    code = {"edited": "release-changed", "lost file": "release-damaged"}.get(damage, "no-release")
    assert told(back) == (State.FAILED, code, Fault.WORLD)
    assert (shop.runtime.running, shop.runtime.acts) == (running, acts)
    assert await shop.live() == second.release
    assert not await shop.quarantined(second.revision or "")
    if code == "no-release":
        assert second.release is not None
        assert second.release in back.steps[-1].detail, "it names those that are kept"
    await shop.check()


async def test_without_a_name_a_damaged_release_is_passed_over(shop: Workshop) -> None:
    first, second, _ = [await shop.deploy() for _ in range(3)]
    tree(shop, second)["n"] = "edited"
    back = await gone_back(shop)
    assert (back.state, await shop.live()) == (State.SUCCEEDED, first.release)


@pytest.mark.parametrize("deployed", [0, 1])
async def test_with_nothing_to_go_back_to_what_is_live_is_left_alone(shop: Workshop, deployed: int) -> None:
    only = [await shop.deploy() for _ in range(deployed)]
    running = shop.runtime.running
    back = await gone_back(shop)
    assert told(back) == (State.FAILED, "no-fallback", Fault.WORLD)
    assert shop.runtime.running == running
    assert await shop.live() == (only[0].release if only else None)
    await shop.check()


async def test_to_what_is_live_already_nothing_happens(shop: Workshop) -> None:
    await shop.deploy()
    live = await shop.deploy()
    acts = list(shop.runtime.acts)
    back = await gone_back(shop, live.release)
    assert told(back) == (State.SUCCEEDED, "already-live", None)
    assert back.revision == live.revision
    assert shop.runtime.acts == acts
    assert not await shop.quarantined(live.revision or "")
    await shop.check()


async def test_a_live_release_that_does_not_run_is_started(shop: Workshop) -> None:
    live = await shop.deploy()
    async with shop.agent() as task:
        assert await shop.idle(task)
        shop.runtime.die()
        back = await shop.go_back(live.release)
        assert await shop.idle(task)
    assert told(await shop.again(back)) == (State.SUCCEEDED, "", None)
    assert not await shop.quarantined(live.revision or "")
    await shop.check()


async def test_a_target_that_does_not_come_up_is_broken_and_nothing_else_is_tried(shop: Workshop) -> None:
    """R-RB-5; it does not count for the guard: nobody is held because a person tried."""
    first, second = await shop.deploy(), await shop.deploy()
    shop.runtime.moods[first.release or ""] = "sick"
    back = await gone_back(shop)
    assert told(back) == (State.BROKEN, "rollback-failed", None)
    assert shop.runtime.acts[-1] == f"start {first.release}"
    assert await shop.live() == first.release
    assert await shop.quarantined(second.revision or "")
    assert not await shop.quarantined(first.revision or "")
    await gone_back(shop, second.release)
    shop.runtime.moods[second.release or ""] = "sick"
    await gone_back(shop, first.release)
    assert not await shop.held()
    await shop.check()


async def test_a_switch_that_never_began_is_no_broken_service(shop: Workshop) -> None:
    await shop.deploy()
    second = await shop.deploy()
    shop.wire.raises("rolling_back/releases.point/1", "before", lambda: no("disk-failed"), times=3)
    back = await gone_back(shop)
    assert told(back) == (State.FAILED, "disk-failed", Fault.WORLD)
    assert await shop.live() == second.release
    await shop.check()


async def test_what_a_person_left_does_not_come_back_and_a_fix_does(shop: Workshop) -> None:
    """R-RB-2: neither by a new push of it, nor by a redelivery, nor by what waits already."""
    first, left = await shop.deploy(), await shop.deploy()
    waiting = await shop.deliver((left.revision or ""), b"another body")
    back = await gone_back(shop)
    assert await shop.quarantined(left.revision or "")
    (told_of,) = [
        q for q in (await shop.services.overview(SERVICE)).quarantine if q.revision == left.revision
    ]
    assert (told_of.reason, told_of.deployment) == ("left-by-hand", back.id)
    passed_over = await shop.journal.deployment(waiting.deployments[0].id)
    assert passed_over is not None
    assert (passed_over.state, passed_over.reason) == (State.SUPERSEDED, "quarantined")
    assert (await shop.deliver(left.revision or "", b"a third body")).reason == "quarantined"
    assert (await shop.deliver(left.revision or "")).decision == "duplicate"
    await shop.ask()  # the tip, which is what was left
    assert await shop.work()
    assert await shop.live() == first.release
    fix = await shop.deploy()
    assert told(fix) == (State.SUCCEEDED, "", None)
    await shop.check()


async def test_who_goes_back_and_forth_leaves_what_they_left_last(shop: Workshop) -> None:
    first, second = await shop.deploy(), await shop.deploy()
    await gone_back(shop)
    await gone_back(shop, second.release)
    assert await shop.live() == second.release
    assert await shop.quarantined(first.revision or "")
    assert not await shop.quarantined(second.revision or "")


async def test_going_back_twice_goes_two_steps_and_not_forth_again(shop: Workshop) -> None:
    """R-RB-1: never to what is in quarantine."""
    first, _, _ = [await shop.deploy() for _ in range(3)]
    await gone_back(shop)
    await gone_back(shop)
    assert await shop.live() == first.release
    await shop.check()


async def test_after_a_rollback_by_hand_a_bad_push_does_not_bring_back_what_was_left(shop: Workshop) -> None:
    first, _ = await shop.deploy(), await shop.deploy()
    await gone_back(shop)
    assert (await shop.deploy("sick")).state is State.ROLLED_BACK
    assert await shop.live() == first.release
    await shop.check()


async def test_a_held_service_goes_back_by_hand(shop: Workshop) -> None:
    first, _ = await shop.deploy(), await shop.deploy()
    await shop.services.hold(SERVICE, actor="me")
    assert (await gone_back(shop)).state is State.SUCCEEDED
    assert await shop.live() == first.release
    assert await shop.held(), "going back resumes nothing"


async def test_it_waits_for_the_deployment_that_is_under_way(shop: Workshop) -> None:
    """F96: never parallel; R-RB-10: and a push that comes during a rollback waits for that."""
    first, second = await shop.deploy(), await shop.deploy()
    shop.wire.forget()
    made: list[Deployment] = []
    third = await shop.push()
    async with shop.agent() as task:

        async def ask() -> None:
            made.append(await shop.go_back(first.release))

        shop.wire.when("building/releases.begin/1", ask)
        pushed: list[str] = []

        async def push() -> None:
            pushed.append(await shop.push())

        shop.wire.when("rolling_back/runtime.stop/1", push)
        assert await shop.idle(task)
    states = [act.split("/")[0] for act in shop.wire.passed]
    back = states.index("rolling_back")
    assert "verifying" in states[:back]
    assert "fetching" in states[back:], "the push came when it was over"
    assert (await shop.again(made[0])).state is State.SUCCEEDED
    assert (await shop.of(third)).state is State.SUCCEEDED
    assert (await shop.of(pushed[0])).state is State.SUCCEEDED
    assert second.release != await shop.live() == (await shop.of(pushed[0])).release
    await shop.check()


async def test_what_is_asked_while_the_bad_one_is_being_verified_leaves_that_one(shop: Workshop) -> None:
    """A person sees it run, and wants it gone: it bounces by itself, and what serves then is left alone."""
    _, good = await shop.deploy(), await shop.deploy()
    made: list[Deployment] = []

    async def ask() -> None:
        made.append(await shop.go_back())

    bad = await shop.push("sick")
    shop.wire.forget()
    async with shop.agent() as task:
        shop.wire.when("verifying/probe.ask/1", ask)
        assert await shop.idle(task)
    assert (await shop.of(bad)).state is State.ROLLED_BACK
    assert told(await shop.again(made[0])) == (State.SUPERSEDED, "not-live", None)
    assert await shop.live() == good.release
    assert not await shop.quarantined(good.revision or "")


async def test_a_wish_to_leave_what_a_newer_one_replaced_meanwhile_is_passed_over(shop: Workshop) -> None:
    await shop.deploy()
    await shop.deploy()
    made: list[Deployment] = []

    async def ask() -> None:
        made.append(await shop.go_back())

    fix = await shop.push()
    shop.wire.forget()
    async with shop.agent() as task:
        shop.wire.when("building/releases.begin/1", ask)
        assert await shop.idle(task)
    assert told(await shop.again(made[0])) == (State.SUPERSEDED, "not-live", None)
    assert await shop.live() == (await shop.of(fix)).release


async def test_it_goes_before_what_waits_and_ends_nothing_of_it(shop: Workshop) -> None:
    first, _ = await shop.deploy(), await shop.deploy()
    fix = await shop.push()
    back = await shop.go_back()
    assert await shop.work()
    assert (await shop.again(back)).state is State.SUCCEEDED
    assert (await shop.of(fix)).state is State.SUCCEEDED
    assert (await shop.of(fix)).previous == first.revision, "it came after the rollback"
    await shop.check()


async def test_the_same_wish_twice_is_one_and_another_one_takes_its_place(shop: Workshop) -> None:
    first, second, _ = [await shop.deploy() for _ in range(3)]
    one, same = await shop.go_back(), await shop.go_back()
    other = await shop.go_back(first.release)
    assert one.id == same.id != other.id
    assert await shop.work()
    assert told(await shop.again(one)) == (State.SUPERSEDED, "newer-queued", None)
    assert (await shop.again(other)).state is State.SUCCEEDED
    assert await shop.live() == first.release != second.release


async def test_a_push_of_the_revision_that_is_gone_back_to_is_a_deployment_of_its_own(shop: Workshop) -> None:
    first, _ = await shop.deploy(), await shop.deploy()
    back = await shop.go_back(first.release)
    admission = await shop.deliver(first.revision or "", b"another body")
    assert admission.deployments[0].id != back.id


async def test_a_release_that_is_waited_for_is_not_pruned() -> None:
    """R-RB-11."""
    async with a_workshop(deploy={"keep_releases": 1}) as shop:
        first, _ = await shop.deploy(), await shop.deploy()
        await shop.push()
        made: list[Deployment] = []

        async def ask() -> None:
            made.append(await shop.go_back(first.release))

        shop.wire.forget()
        async with shop.agent() as task:
            shop.wire.when("building/releases.begin/1", ask)
            assert await shop.idle(task)
        assert told(await shop.again(made[0])) == (State.SUCCEEDED, "", None)


async def test_once_it_has_its_aim_a_reboot_does_not_change_it(shop: Workshop) -> None:
    """R-RB-10, F12: also if the release, now running, has edited its own files."""
    first, _ = await shop.deploy(), await shop.deploy()
    made = await shop.go_back()
    shop.wire.raises("rolling_back/probe.ask/1", "before", Killed)
    assert not await shop.work()
    tree(shop, first)["n"] = "edited"
    shop.runtime.reboot()
    assert await shop.work()
    assert told(await shop.again(made)) == (State.SUCCEEDED, "", None)
    assert await shop.live() == first.release


async def test_a_reboot_before_the_aim_starts_what_is_live_first(shop: Workshop) -> None:
    """A rollback that is refused then finds the service running."""
    first, second = await shop.deploy(), await shop.deploy()
    made = await shop.go_back(first.release)
    shop.wire.raises("rolling_back/releases.verify/1", "before", Killed)
    assert not await shop.work()
    tree(shop, first)["n"] = "edited"
    shop.runtime.reboot()
    assert await shop.work()
    assert (await shop.again(made)).state is State.FAILED
    assert shop.runtime.running is not None
    assert shop.runtime.running.release == second.release
    await shop.check()


# --- by a workflow that failed after the deployment


async def test_a_workflow_that_fails_for_what_is_live_rolls_it_back(shop: Workshop) -> None:
    """As any automatic rollback: counted, and the revision quarantined, in the transaction of its end."""
    good, bad = await shop.deploy(), await shop.deploy()
    shop.remote.gone = True
    admission = await shop.failed(bad.revision or "")
    assert admission.decision == "deploy"
    assert await shop.work()
    back = await shop.journal.deployment(admission.deployments[0].id)
    assert back is not None
    assert told(back) == (State.ROLLED_BACK, "workflow-failed", Fault.COMMIT)
    assert (back.revision, back.previous, back.release) == (bad.revision, good.revision, good.release)
    assert (back.trigger.kind, back.trigger.event) == ("webhook", "workflow_run")
    assert await shop.live() == good.release
    (quarantined,) = (await shop.services.overview(SERVICE)).quarantine
    assert (quarantined.revision, quarantined.reason) == (bad.revision, "workflow-failed")
    assert (await shop.failed(bad.revision or "")).decision == "duplicate"
    assert (await shop.failed(bad.revision or "", b"its second attempt")).reason == "not-live"
    assert (await shop.deliver(bad.revision or "", b"pushed again")).reason == "quarantined"
    assert await shop.work()
    assert await shop.live() == good.release
    await shop.check()


async def test_two_of_them_within_an_hour_hold_the_service(shop: Workshop) -> None:
    """R-RB-4: they count like those of the health watch."""
    await shop.deploy()
    for _ in range(2):
        bad = await shop.deploy()
        assert not await shop.held()
        await shop.failed(bad.revision or "")
        assert await shop.work()
    assert await shop.held()
    await shop.check()


async def test_a_workflow_that_fails_for_something_else_changes_nothing(shop: Workshop) -> None:
    old, live = await shop.deploy(), await shop.deploy()
    for revision in (old.revision or "", "c" * 40):
        admission = await shop.failed(revision)
        assert (admission.decision, admission.reason) == ("ignored", "not-live")
    assert await shop.work()
    assert await shop.live() == live.release


async def test_while_it_is_held_a_workflow_leads_nowhere_and_a_resume_does_not_make_up_for_it(
    shop: Workshop,
) -> None:
    _, live = await shop.deploy(), await shop.deploy()
    await shop.services.hold(SERVICE, actor="me")
    assert (await shop.failed(live.revision or "")).reason == "held"
    assert await shop.resume() is None
    assert await shop.work()
    assert await shop.live() == live.release
    assert (await shop.failed(live.revision or "")).decision == "deploy", "redelivered, it counts"


async def test_one_that_waits_when_the_service_is_held_waits_on(shop: Workshop) -> None:
    _, live = await shop.deploy(), await shop.deploy()
    await shop.failed(live.revision or "")
    await shop.services.hold(SERVICE, actor="me")
    assert await shop.work()
    assert await shop.live() == live.release
    await shop.resume()
    assert await shop.work()
    assert await shop.live() != live.release


async def test_with_nothing_to_go_back_to_what_a_workflow_blames_goes_on_serving(shop: Workshop) -> None:
    only = await shop.deploy()
    running = shop.runtime.running
    assert (await shop.failed(only.revision or "")).reason == "no-fallback"
    assert await shop.work()
    assert shop.runtime.running == running
    assert await shop.live() == only.release


async def test_with_nothing_whole_to_go_back_to_it_goes_on_serving_too(shop: Workshop) -> None:
    """What the journal knows was not what lies on the disk."""
    good, bad = await shop.deploy(), await shop.deploy()
    await lose(shop, good)
    running = shop.runtime.running
    admission = await shop.failed(bad.revision or "")
    assert await shop.work()
    back = await shop.journal.deployment(admission.deployments[0].id)
    assert back is not None
    assert told(back) == (State.FAILED, "no-fallback", Fault.WORLD)
    assert shop.runtime.running == running
    assert await shop.live() == bad.release
    assert not await shop.quarantined(bad.revision or "")
    assert (await shop.failed(bad.revision or "")).decision == "duplicate"
    await shop.check()


async def test_another_deployment_of_the_same_commit_is_no_way_back(shop: Workshop) -> None:
    good = await shop.deploy()
    bad = await shop.deploy()
    await shop.ask(force=True)
    assert await shop.work()
    await shop.failed(bad.revision or "")
    assert await shop.work()
    assert await shop.live() == good.release


async def test_what_went_live_meanwhile_is_not_rolled_back(shop: Workshop) -> None:
    _, bad = await shop.deploy(), await shop.deploy()
    ids: list[str] = []

    async def tell() -> None:
        ids.append((await shop.failed(bad.revision or "")).deployments[0].id)

    fix = await shop.push()
    shop.wire.forget()
    async with shop.agent() as task:
        shop.wire.when("building/releases.begin/1", tell)
        assert await shop.idle(task)
    back = await shop.journal.deployment(ids[0])
    assert back is not None
    assert (back.state, back.reason) == (State.SUPERSEDED, "not-live")
    assert await shop.live() == (await shop.of(fix)).release
    assert not await shop.quarantined(bad.revision or "")


async def test_several_runs_that_fail_lead_back_once(shop: Workshop) -> None:
    good, _, bad = [await shop.deploy() for _ in range(3)]
    first, second = await shop.failed(bad.revision or "", b"a"), await shop.failed(bad.revision or "", b"b")
    assert first.deployments[0].id == second.deployments[0].id
    assert await shop.work()
    assert await shop.live() != good.release
    assert not await shop.held()


async def test_a_target_that_is_sick_then_is_broken_and_counts(shop: Workshop) -> None:
    """R-RB-5."""
    good, bad = await shop.deploy(), await shop.deploy()
    shop.runtime.moods[good.release or ""] = "sick"
    admission = await shop.failed(bad.revision or "")
    assert await shop.work()
    back = await shop.journal.deployment(admission.deployments[0].id)
    assert back is not None
    assert told(back) == (State.BROKEN, "rollback-failed", Fault.COMMIT)
    assert "after workflow-failed" in back.steps[-1].detail
    assert await shop.quarantined(bad.revision or "")


# --- the chain


async def test_the_revision_that_was_live_is_built_when_no_confirmed_release_is_left(shop: Workshop) -> None:
    """CONTRACT, Fallback; R-RB-1."""
    first, live = await shop.deploy(), await shop.deploy()
    await lose(shop, first, live)
    bad = await shop.deploy("sick")
    assert told(bad) == (State.ROLLED_BACK, "health-timeout", Fault.COMMIT)
    found = await shop.services.live(SERVICE)
    assert found is not None
    assert (found.revision, found.proven) == (live.revision, True)
    assert found.release not in (first.release, live.release, bad.release)
    assert found.release.startswith("4-"), "a name of its own from the sequence"
    assert "serves" in bad.steps[-1].detail
    assert "fetching" not in steps(bad)[2:]
    assert not [act for act in shop.wire.passed if act.startswith("rolling_back/source.fetch")]
    await shop.check()
    assert (await shop.deploy("crash")).state is State.ROLLED_BACK
    assert await shop.live() == found.release, "it is confirmed like any other"


async def test_a_spare_release_that_is_sick_is_broken(shop: Workshop) -> None:
    """R-RB-5: it must prove itself before it counts, and nothing else is tried then."""
    live = await shop.deploy()
    await lose(shop, live)
    shop.runtime.moods[f"3-{(live.revision or '')[:7]}"] = "sick"
    bad = await shop.deploy("sick")
    assert told(bad) == (State.BROKEN, "rollback-failed", Fault.COMMIT)
    assert await shop.live() == f"3-{(live.revision or '')[:7]}"


async def test_what_cannot_be_built_is_passed_over_for_the_pushs_before_and_then_the_parent(
    shop: Workshop,
) -> None:
    live = await shop.deploy()
    between = shop.remote.commit({"n": "between"})
    parent = shop.remote.commit({"n": "parent"})
    bad = shop.remote.commit({"app": "sick"})
    await lose(shop, live)
    await shop.deliver(bad, before=between)
    failing = no("build-failed")
    shop.wire.raises("rolling_back/builder.build/1", "before", lambda: failing, times=2)
    assert await shop.work()
    found = await shop.services.live(SERVICE)
    assert found is not None
    assert found.revision == parent
    laid_out = [act for act in shop.wire.passed if act.startswith("rolling_back/source.lay_out")]
    assert len(laid_out) == 3, "what was live, the push's before, the parent"
    await shop.check()


async def test_a_before_that_does_not_lie_on_the_branch_is_not_built(shop: Workshop) -> None:
    """R-RX-20: what a payload says is a hint."""
    live = await shop.deploy()
    elsewhere = shop.remote.commit({"n": "elsewhere"}, branch="other")
    shop.remote.tags["v1"] = elsewhere
    bad = shop.remote.commit({"app": "sick"})
    await lose(shop, live)
    await shop.deliver(bad, before=elsewhere)
    shop.wire.raises("rolling_back/builder.build/1", "before", lambda: no("build-failed"))
    assert await shop.work()
    assert told(await shop.of(bad)) == (State.FAILED, "no-fallback", Fault.COMMIT)


async def test_when_nothing_can_be_built_it_is_stopped(shop: Workshop) -> None:
    """R-RB-1: no loop."""
    live = await shop.deploy()
    await lose(shop, live)
    shop.wire.raises("rolling_back/builder.build/1", "before", lambda: no("build-failed"), times=9)
    bad = await shop.deploy("sick")
    assert told(bad) == (State.FAILED, "no-fallback", Fault.COMMIT)
    assert (await shop.live(), shop.runtime.running) == (None, None)
    assert (await shop.deploy()).state is State.SUCCEEDED
    await shop.check()


async def test_a_revision_in_quarantine_is_not_built(shop: Workshop) -> None:
    """R-RB-1, R-RB-2: the parent of a bad commit may be a bad commit."""
    live = await shop.deploy()
    await shop.deploy("crash")
    await lose(shop, live)
    shop.wire.forget()
    shop.wire.raises("rolling_back/builder.build/1", "before", lambda: no("build-failed"))
    assert told(await shop.deploy("sick")) == (State.FAILED, "no-fallback", Fault.COMMIT)
    assert built(shop) == ["rolling_back/builder.build/1"]


async def test_the_mirror_is_fetched_only_for_what_it_lacks(shop: Workshop) -> None:
    live = await shop.deploy()
    await lose(shop, live)
    bad = await shop.push("sick")
    shop.wire.trip("rolling_back/releases.ready/1", "before", lambda: shop.source.lose(live.revision or ""))
    assert await shop.work()
    assert (await shop.of(bad)).state is State.ROLLED_BACK
    assert "rolling_back/source.fetch/1" in shop.wire.passed


async def test_a_spare_that_edits_its_own_files_survives_a_reboot(shop: Workshop) -> None:
    """F12: what was gone back to already is not built again, and nothing else instead."""
    live = await shop.deploy()
    await lose(shop, live)
    bad = await shop.push("sick")
    shop.wire.raises("rolling_back/probe.ask/1", "before", Killed)
    assert not await shop.work()
    name = shop.releases.link or ""
    shop.disk.trees[shop.releases.path(name)]["n"] = "edited"
    shop.runtime.reboot()
    assert await shop.work()
    assert (await shop.of(bad)).state is State.ROLLED_BACK
    assert await shop.live() == name


# --- reverts


async def test_a_revert_is_a_deployment_like_any_other(shop: Workshop) -> None:
    """R-RB-3: a new commit with an old tree."""
    good = await shop.deploy()
    bad = await shop.deploy("sick")
    revert = await shop.deploy("good")
    assert told(revert) == (State.SUCCEEDED, "", None)
    assert revert.release not in (good.release, bad.release)
    await shop.check()


async def test_a_branch_that_is_reset_to_an_old_good_commit_is_followed(shop: Workshop) -> None:
    """R-RB-3."""
    good, other = await shop.deploy(), await shop.deploy()
    assert await shop.live() == other.release
    shop.remote.heads["main"] = good.revision or ""
    await shop.deliver(good.revision or "", b"forced")
    assert await shop.work()
    again = await shop.of(good.revision or "")
    assert told(again) == (State.SUCCEEDED, "", None)
    assert await shop.live() == again.release
    await shop.check()
