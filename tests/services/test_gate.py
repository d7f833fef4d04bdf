"""Which revision runs, and when not: the real gate, lane and journal over a repository that others push to."""

import asyncio
from datetime import timedelta
from itertools import permutations

import pytest

from agent.core.errors import StepFailed
from agent.core.model import Deployment, State
from tests.fakes import START
from tests.services.workshop import SERVICE, Killed, Workshop, a_workshop


def told(deployment: Deployment) -> tuple[State, str]:
    return deployment.state, deployment.reason


async def by_id(shop: Workshop, identity: str) -> Deployment:
    found = await shop.journal.deployment(identity)
    assert found is not None
    return found


async def live(shop: Workshop) -> str:
    found = await shop.services.live(SERVICE)
    assert found is not None
    return found.revision


async def events(shop: Workshop, name: str) -> list[dict[str, object]]:
    return [event.data for event in await shop.events.after(0, 10000) if event.name == name]


# --- ancestry


async def test_pushes_out_of_order_do_not_take_the_service_back(shop: Workshop) -> None:
    """R-RX-23, F47: the older push came later; the newest tip runs, and stays."""
    await shop.deploy()
    older, newer = shop.commit(), shop.commit()
    await shop.deliver(newer)
    assert await shop.work()
    starts = list(shop.runtime.acts)
    await shop.deliver(older)
    assert await shop.work()
    assert await live(shop) == newer
    assert shop.runtime.acts == starts
    assert told((await shop.all())[0]) == (State.SUCCEEDED, "already-live")


async def test_green_commits_in_any_order_end_with_the_newest() -> None:
    """R-RX-23, F47: what each was told in was not the order in which they were made."""
    for order in permutations(range(3)):
        async with a_workshop() as shop:
            await shop.deploy()
            commits = [shop.commit() for _ in range(3)]
            placed = {index: await shop.green(commits[index]) for index in order}
            assert await shop.work()
            assert await live(shop) == commits[-1]
            ends = {index: told(await by_id(shop, placed[index])) for index in order}
            assert ends[2] == (State.SUCCEEDED, "")
            assert ends[0] == ends[1] == (State.SUPERSEDED, "newer-queued")
            assert len(shop.saves.made) == 2
            await shop.check()


async def test_green_commits_that_come_one_by_one_and_late_change_nothing(shop: Workshop) -> None:
    """R-RX-23: an ancestor of what is live ends superseded, what is live is left untouched."""
    old, older = shop.commit(), shop.commit()
    newest = await shop.deploy()
    starts = list(shop.runtime.acts)
    for event, revision in (("workflow_run", old), ("release", older)):
        placed = await shop.green(revision, event)
        assert await shop.work()
        ended = await by_id(shop, placed)
        assert told(ended) == (State.SUPERSEDED, "newer-live")
        assert ended.hint
    same = await shop.green(newest.revision or "")
    assert await shop.work()
    assert told(await by_id(shop, same)) == (State.SUCCEEDED, "already-live")
    assert shop.runtime.acts == starts
    await shop.check()


async def test_a_green_commit_is_deployed_exactly_also_when_the_branch_went_on(shop: Workshop) -> None:
    await shop.deploy()
    green = shop.commit()
    shop.commit()
    await shop.green(green)
    assert await shop.work()
    assert await live(shop) == green


async def test_a_wish_that_does_not_resolve_costs_no_accepted_delivery(shop: Workshop) -> None:
    """A tag that does not exist, a commit of nobody, one aside of the branch: beside a good push and a green commit."""
    await shop.deploy()
    shop.remote.tags["aside"] = shop.remote.commit({"x": "y"}, branch="side")
    await shop.ask("no-such-tag")
    strays = [await shop.green("f" * 40), (await shop.ask("aside")).id]
    green = await shop.green(shop.commit())
    push = await shop.push()
    await shop.ask("neither-this")
    assert await shop.work()
    assert await live(shop) == push
    assert told(await by_id(shop, green)) == (State.SUPERSEDED, "newer-queued")
    failed = [item for item in await shop.all() if item.state is State.FAILED]
    assert sorted(item.reason for item in failed) == [
        "not-on-branch", "revision-unknown", "revision-unknown", "revision-unknown",
    ]  # fmt: skip
    assert {item.id for item in failed} >= set(strays)
    await shop.check()


async def test_while_the_network_is_gone_a_hundred_pushes_fail_once(shop: Workshop) -> None:
    await shop.deploy()
    for _ in range(100):
        await shop.push()
    shop.remote.gone = True
    assert await shop.work()
    assert [item.state for item in await shop.all()].count(State.FAILED) == 1


async def test_lines_that_know_nothing_of_each_other_run_one_after_the_other(shop: Workshop) -> None:
    """Two commits that a merge brought together: neither is older."""
    await shop.deploy()
    other = shop.remote.commit({"other": "1"}, branch="side")
    one = shop.commit({"one": "1"})
    shop.remote.merge("side")
    first, second = await shop.ask(one), await shop.ask(other)
    assert await shop.work()
    assert told(await by_id(shop, first.id)) == told(await by_id(shop, second.id)) == (State.SUCCEEDED, "")
    assert await live(shop) == other, "what was asked for last"


# --- many


async def test_five_hundred_pushes_during_a_deployment_are_one_more(shop: Workshop) -> None:
    """F48, R-RX-25: at most two deployments, and the last tip is live."""
    pushed: list[str] = []

    async def flood(launch: object, heard: object, *, reused: bool = False) -> str:
        while len(pushed) < 500:
            pushed.append(await shop.push())
        return "slow"

    await shop.push()
    async with shop.agent() as task:
        shop.site.builder.build = flood  # type: ignore[method-assign, assignment]  # in the middle of the first
        assert await shop.idle(task)
    ends = [told(item) for item in await shop.all()]
    assert ends == [
        (State.SUCCEEDED, ""), *[(State.SUPERSEDED, "newer-queued")] * 499, (State.SUCCEEDED, ""),
    ]  # fmt: skip
    assert await live(shop) == pushed[-1]
    assert len(shop.saves.made) == 2
    await shop.check()


async def test_a_hundred_green_commits_ask_git_a_few_questions_each(shop: Workshop) -> None:
    await shop.deploy()
    commits = [shop.commit() for _ in range(100)]
    for revision in commits:
        await shop.green(revision)
    shop.wire.forget()
    assert await shop.work()
    assert await live(shop) == commits[-1]
    assert len([act for act in shop.wire.passed if "source." in act]) < 6 * 100


# --- a person


async def test_a_person_goes_back_by_name_and_nothing_undoes_it(shop: Workshop) -> None:
    """What is live already (a late delivery) takes nobody's place, whenever it comes."""
    old = await shop.deploy()
    new = await shop.deploy()
    await shop.deliver(new.revision or "", b"another body")
    asked = await shop.ask(old.revision)
    await shop.deliver(new.revision or "", b"a third one")
    assert await shop.work()
    assert told(await by_id(shop, asked.id)) == (State.SUCCEEDED, "")
    assert await live(shop) == new.revision, "the push of the tip that came last"
    await shop.ask(old.revision)
    assert await shop.work()
    assert await live(shop) == old.revision


async def test_what_a_person_named_gives_way_to_a_newer_push(shop: Workshop) -> None:
    await shop.deploy()
    named = await shop.ask(shop.commit())
    push = await shop.push()
    assert await shop.work()
    assert told(await by_id(shop, named.id)) == (State.SUPERSEDED, "newer-queued")
    assert await live(shop) == push


async def test_what_a_person_named_does_not_give_way_to_a_push_that_is_skipped(shop: Workshop) -> None:
    await shop.deploy()
    named = await shop.ask(shop.commit())
    await shop.deliver(shop.commit(message="docs [skip deploy]"))
    assert await shop.work()
    assert told(await by_id(shop, named.id)) == (State.SUCCEEDED, "")
    assert (await shop.all())[0].reason == "skip-deploy"


async def test_what_a_person_forced_runs_also_before_a_newer_push(shop: Workshop) -> None:
    old = await shop.deploy()
    await shop.deploy()
    earlier = await shop.push()
    forced = await shop.ask(old.revision, force=True)
    assert await shop.work()
    assert told(await by_id(shop, forced.id)) == (State.SUCCEEDED, "")
    assert told(await shop.of(earlier)) == (State.SUPERSEDED, "newer-queued")
    assert await live(shop) == old.revision
    forced = await shop.ask(old.revision, force=True)
    later = await shop.push()
    assert await shop.work()
    assert told(await by_id(shop, forced.id)) == (State.SUCCEEDED, "")
    assert await live(shop) == later, "it came after what was forced"


async def test_force_deploys_what_is_live_once_more(shop: Workshop) -> None:
    first = await shop.deploy()
    await shop.ask(force=True)
    assert await shop.work()
    assert await live(shop) == first.revision
    assert await shop.live() != first.release


async def test_a_rollback_that_waits_takes_part_in_no_order(shop: Workshop) -> None:
    """It goes first whenever it was asked for, and is none of the wishes for a revision."""
    first, _ = await shop.deploy(), await shop.deploy()
    newest = shop.commit()
    back: list[Deployment] = []
    fetch = shop.source.fetch

    async def meanwhile() -> str:
        if not back:
            back.append(await shop.go_back(first.release))
        return await fetch()

    shop.source.fetch = meanwhile  # type: ignore[method-assign]  # asked for while the push is being looked at
    await shop.deliver(newest)
    assert await shop.work()
    assert told(await by_id(shop, back[0].id)) == (State.SUCCEEDED, "")
    assert told(await shop.of(newest)) == (State.SUCCEEDED, "")
    assert await live(shop) == first.revision


async def test_without_force_what_is_live_is_left_untouched(shop: Workshop) -> None:
    first = await shop.deploy()
    running = shop.runtime.running
    for wanted in (None, first.revision, "main"):
        asked = await shop.ask(wanted)
        assert await shop.work()
        assert told(await by_id(shop, asked.id)) == (State.SUCCEEDED, "already-live")
    assert shop.runtime.running == running


# --- a branch that was reset


async def test_a_reset_is_followed_by_a_push_and_told_with_both_revisions(shop: Workshop) -> None:
    """R-RX-24, F36."""
    first = await shop.deploy()
    left = await shop.deploy()
    shop.remote.heads["main"] = first.revision or ""
    other = shop.commit()
    await shop.deliver(other)
    assert await shop.work()
    assert await live(shop) == other
    assert await events(shop, "branch.reset") == [{"branch": "main", "old": left.revision, "new": other}]
    await shop.deploy()
    assert len(await events(shop, "branch.reset")) == 1, "what is live lies on the branch again"


async def test_a_reset_back_to_an_older_commit_is_followed_by_a_push(shop: Workshop) -> None:
    """R-RB-3: also to one that was deployed before."""
    first = await shop.deploy()
    left = await shop.deploy()
    shop.remote.heads["main"] = first.revision or ""
    await shop.deliver(first.revision or "", b"forced")
    assert await shop.work()
    assert await live(shop) == first.revision
    assert await events(shop, "branch.reset") == [
        {"branch": "main", "old": left.revision, "new": first.revision}
    ]


async def test_a_green_commit_that_the_branch_has_left_fails(shop: Workshop) -> None:
    first = await shop.deploy()
    left = shop.commit()
    await shop.site.source.fetch()
    placed = await shop.green(left)
    shop.remote.heads["main"] = first.revision or ""
    shop.commit()
    assert await shop.work()
    assert told(await by_id(shop, placed)) == (State.FAILED, "not-on-branch")


# --- skipped


@pytest.mark.parametrize("words", ["[skip deploy]", "[Deploy Skip]"])
async def test_a_commit_that_asks_for_it_is_skipped_unless_a_person_wants_it(words: str) -> None:
    async with a_workshop() as shop:
        good = await shop.deploy()
        revision = shop.commit(message=f"docs\n\n{words}\n")
        await shop.deliver(revision)
        placed = await shop.green(revision)
        assert await shop.work()
        assert told(await shop.of(revision)) == (State.SUPERSEDED, "skip-deploy")
        assert told(await by_id(shop, placed)) == (State.SUPERSEDED, "skip-deploy")
        assert await live(shop) == good.revision
        asked = await shop.ask(revision)
        assert await shop.work()
        assert told(await by_id(shop, asked.id)) == (State.SUCCEEDED, "")


async def test_it_is_the_message_of_what_would_run_that_counts(shop: Workshop) -> None:
    await shop.deploy()
    await shop.deliver(shop.commit(message="[skip deploy]"))
    push = await shop.push()
    assert await shop.work()
    assert await live(shop) == push


async def test_a_skipped_commit_does_not_cost_a_green_one_below_it(shop: Workshop) -> None:
    await shop.deploy()
    green, skipped = shop.commit(), shop.commit(message="[skip deploy]")
    await shop.green(green)
    await shop.green(skipped)
    assert await shop.work()
    assert await live(shop) == green


# --- source.paths


async def test_only_changes_of_the_named_paths_deploy_by_themselves() -> None:
    async with a_workshop(source={"repository": "/x", "paths": ["src/**", "!src/docs/"]}) as shop:
        await shop.deploy()  # the first one: nothing is live that it could be compared with
        for changed in ({"README.md": "1"}, {"src/docs/a.md": "1"}):
            revision = shop.commit(changed)
            await shop.deliver(revision)
            assert await shop.work()
            ended = await shop.of(revision)
            assert told(ended) == (State.SUPERSEDED, "paths-unchanged")
            assert ended.hint
        revision = shop.commit({"src/a.py": "1"})
        await shop.deliver(revision)
        assert await shop.work()
        assert await live(shop) == revision


async def test_several_pushes_are_compared_with_what_is_live_and_not_with_each_other() -> None:
    """What was skipped, for whichever reason, comes with the next one that is not."""
    async with a_workshop(source={"repository": "/x", "paths": ["src/**"]}) as shop:
        await shop.deploy()
        for changed, message in (({"a": "1"}, "a"), ({"src/b": "1"}, "[skip deploy]"), ({"c": "1"}, "c")):
            await shop.deliver(shop.commit(changed, message))
            assert await shop.work()
        assert [item.reason for item in await shop.all()] == ["", "skip-deploy", "paths-unchanged", ""]
        last = shop.commit({"d": "1"})
        await shop.deliver(last)
        assert await shop.work()
        assert told(await shop.of(last)) == (State.SUPERSEDED, "paths-unchanged")


async def test_a_change_that_was_taken_back_is_none() -> None:
    async with a_workshop(source={"repository": "/x", "paths": ["src/**"]}) as shop:
        shop.commit({"src/a": "1"})
        await shop.deploy()
        shop.commit({"src/a": "2"})
        back = shop.commit({"src/a": "1"})
        await shop.deliver(back)
        assert await shop.work()
        assert told(await shop.of(back)) == (State.SUPERSEDED, "paths-unchanged")


async def test_a_persons_wish_minds_no_paths() -> None:
    async with a_workshop(source={"repository": "/x", "paths": ["src/**"]}) as shop:
        await shop.deploy()
        revision = shop.commit({"README.md": "1"})
        await shop.ask()
        assert await shop.work()
        assert await live(shop) == revision


async def test_a_live_commit_that_git_does_not_know_any_more_lets_everything_pass() -> None:
    """The branch was rewritten and the mirror made anew."""
    async with a_workshop(source={"repository": "/x", "paths": ["src/**"]}) as shop:
        first = await shop.deploy()
        shop.remote.heads.clear()
        shop.source._known.clear()
        revision = shop.remote.commit({"app": "good", "n": "anew"})
        await shop.deliver(revision)
        assert await shop.work()
        assert await live(shop) == revision
        assert await events(shop, "branch.reset") == [
            {"branch": "main", "old": first.revision, "new": revision}
        ]


async def test_what_the_world_refuses_is_no_answer_of_a_path_filter() -> None:
    """R-RB-6."""
    async with a_workshop(source={"repository": "/x", "paths": ["src/**"]}) as shop:
        await shop.deploy()
        shop.wire.raises("fetching/source.changes/1", "before", lambda: StepFailed("git-failed", "slow"))
        revision = await shop.push()
        assert await shop.work()
        assert told(await shop.of(revision)) == (State.FAILED, "git-failed")


# --- deploy.freeze (the tests' clock begins on a Sunday at noon)


NOON = {"freeze": [{"from": "sun 11:00", "to": "sun 13:00"}]}


async def test_inside_a_freeze_what_comes_by_itself_waits_for_its_end() -> None:
    async with a_workshop(deploy=NOON) as shop:
        pushed = [await shop.push() for _ in range(3)]
        assert await shop.work()
        assert {item.state for item in await shop.all()} == {State.QUEUED}
        shop.clock.advance(3600)
        assert await shop.work()
        assert await live(shop) == pushed[-1]
        await shop.check()


async def test_inside_a_freeze_a_person_deploys_and_overtakes_what_is_contained_in_it() -> None:
    async with a_workshop(deploy=NOON) as shop:
        older = await shop.push()
        asked = await shop.ask(shop.commit())
        newer = await shop.push()
        assert await shop.work()
        assert told(await by_id(shop, asked.id)) == (State.SUCCEEDED, "")
        shop.clock.advance(3600)
        assert await shop.work()
        assert told(await shop.of(older)) == (State.SUPERSEDED, "newer-queued")
        assert await live(shop) == newer


async def test_a_person_who_asks_for_what_is_frozen_sets_it_free() -> None:
    """F95: it is the same deployment."""
    async with a_workshop(deploy=NOON) as shop:
        revision = await shop.push()
        placed = (await shop.of(revision)).id
        assert await shop.work()
        assert (await shop.ask(revision)).id == placed
        assert await shop.work()
        assert told(await by_id(shop, placed)) == (State.SUCCEEDED, "")


async def test_a_rollback_runs_inside_a_freeze() -> None:
    """What was begun before it, or by a person, is brought to its end."""
    async with a_workshop(deploy=NOON) as shop:
        await shop.ask(shop.commit())
        assert await shop.work()
        good = await live(shop)
        bad = shop.remote.commit({"app": "sick"})
        await shop.ask(bad)
        assert await shop.work()
        assert (await shop.of(bad)).state is State.ROLLED_BACK
        assert await live(shop) == good


@pytest.mark.parametrize("who", ["person", "workflow"])
async def test_inside_a_freeze_what_is_live_is_left_at_once_by_whoever_asks(who: str) -> None:
    async with a_workshop(deploy=NOON) as shop:
        shop.clock.set_wall(START + timedelta(hours=2))
        good, bad = await shop.deploy(), await shop.deploy()
        shop.clock.set_wall(START)
        waiting = await shop.push()
        if who == "person":
            await shop.go_back()
        else:
            await shop.failed(bad.revision or "")
        assert await shop.work()
        assert await live(shop) == good.revision
        assert (await shop.of(waiting)).state is State.QUEUED


@pytest.mark.parametrize("jump", [timedelta(days=365), -timedelta(days=365), timedelta(hours=2)])
async def test_a_clock_that_jumps_neither_loses_nor_freezes_for_ever(jump: timedelta) -> None:
    """F53: it is looked at with each look for work."""
    async with a_workshop(deploy=NOON) as shop:
        revision = await shop.push()
        assert await shop.work()
        shop.clock.set_wall(START + jump)
        assert await shop.work()
        shop.clock.set_wall(START + timedelta(hours=1))
        assert await shop.work()
        assert await live(shop) == revision


async def test_the_lane_wakes_itself_when_a_freeze_ends() -> None:
    """Long before it would look by itself, and nobody wakes it."""
    async with a_workshop(deploy=NOON) as shop:
        shop.clock.set_wall(START + timedelta(minutes=59, seconds=59.9))
        revision = await shop.push()
        async with shop.agent() as task:
            await shop.idle(task)
            assert (await shop.of(revision)).state is State.QUEUED
            shop.clock.advance(0.1)
            await shop.idle(task, seconds=5)
            assert await live(shop) == revision


# --- a person joins


async def test_a_person_who_joins_in_the_middle_of_the_decision_is_heard(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F95: the automatic deployment was about to be skipped when the same revision was asked for by hand."""
    await shop.deploy()
    revision = shop.commit(message="[skip deploy]")
    await shop.deliver(revision)
    message = shop.source.message
    joined: list[Deployment] = []

    async def meanwhile(asked: str) -> str:
        joined.append(await shop.ask(revision))
        return await message(asked)

    monkeypatch.setattr(shop.source, "message", meanwhile)
    assert await shop.work()
    (only,) = [item for item in await shop.all() if item.revision == revision]
    assert [item.id for item in joined] == [only.id]
    assert told(only) == (State.SUCCEEDED, "")
    await shop.check()


# --- cut off


async def crowded(shop: Workshop) -> dict[str, str]:
    """Something of everything in the queue at once, by name."""
    await shop.deploy()
    shop.wire.forget()
    old, late = shop.commit(), shop.commit()
    placed = {"late": await shop.green(late), "old": await shop.green(old)}
    placed["named"] = (await shop.ask("v1")).id
    await shop.deliver(shop.commit())
    placed["push"] = (await shop.all())[0].id
    placed["skipped"] = await shop.green(shop.commit(message="[skip deploy]"))
    shop.remote.heads["main"] = shop.commit()
    return placed


async def ends_of(shop: Workshop, placed: dict[str, str]) -> dict[str, tuple[State, str]]:
    return {name: told(await by_id(shop, identity)) for name, identity in placed.items()}


async def test_cut_off_at_any_act_of_the_decision_it_decides_the_same() -> None:
    """R-PL-2 in one process: what has been decided is in the journal with the next state, or not at all."""
    async with a_workshop() as shop:
        placed = await crowded(shop)
        assert await shop.work()
        expected = await ends_of(shop, placed)
        places = [place for place in shop.wire.passed if place.startswith(("fetching/", "idle/"))]
    assert expected == {
        "late": (State.SUPERSEDED, "newer-queued"), "old": (State.SUPERSEDED, "newer-queued"),
        "named": (State.FAILED, "revision-unknown"), "push": (State.SUCCEEDED, ""),
        "skipped": (State.SUPERSEDED, "skip-deploy"),
    }  # fmt: skip
    assert len(places) > 15
    for place in dict.fromkeys(places):
        async with a_workshop() as shop:
            placed = await crowded(shop)
            shop.wire.raises(place, "after", Killed)
            for _ in range(3):
                if await shop.work():
                    break
            assert shop.wire.done, place
            assert await ends_of(shop, placed) == expected, place
            await shop.check()


async def test_what_arrives_between_the_decision_and_its_record_keeps_its_place(shop: Workshop) -> None:
    await shop.deploy()
    await shop.push()
    arrived = asyncio.Event()
    descends = shop.source.descends

    async def meanwhile(revision: str, ancestor: str) -> bool:
        if not arrived.is_set():
            arrived.set()
            await shop.push()
        return await descends(revision, ancestor)

    shop.source.descends = meanwhile  # type: ignore[method-assign]  # a push at the worst instant
    assert await shop.work()
    assert arrived.is_set()
    assert [told(item) for item in await shop.all()] == [(State.SUCCEEDED, "")] * 3
    assert await live(shop) == shop.remote.heads["main"]
