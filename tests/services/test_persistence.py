"""A deployment whose remote does not answer is tried again by itself; real git: `contracts/test_source_remotes`."""

import pytest

from agent.core.backoff import PAUSES
from agent.core.errors import StepFailed
from agent.core.model import Fault, State
from tests.services.workshop import Killed, Workshop


def away() -> StepFailed:
    return StepFailed("git-unreachable", "nobody answers")


@pytest.mark.parametrize("act", ["fetching/source.fetch", "building/source.lay_out"])
async def test_a_remote_that_fails_twice_and_then_works_ends_well(shop: Workshop, act: str) -> None:
    """R-RB-6, F33: by itself, without blame, and what happened can be read."""
    shop.wire.raises(f"{act}/1", "before", away, times=2)
    done = await shop.deploy()
    assert (done.state, done.reason) == (State.SUCCEEDED, "")
    assert not await shop.quarantined(done.revision or "")
    output = await shop.journal.output(done.id)
    assert output is not None
    assert output.count("nobody answers (git-unreachable); tried again in") == 2
    await shop.check()


async def test_a_remote_that_stays_away_ends_it_after_three_further_tries(shop: Workshop) -> None:
    """R-RB-6, F33: no quarantine; and the next trigger begins anew."""
    good = await shop.deploy()
    shop.wire.raises("fetching/source.fetch/1", "before", away, times=1 + len(PAUSES))
    bad = await shop.deploy()
    assert (bad.state, bad.reason, bad.fault) == (State.FAILED, "git-unreachable", Fault.WORLD)
    assert await shop.live() == good.release
    again = await shop.deploy()
    assert again.state is State.SUCCEEDED
    await shop.check()


async def test_how_it_goes_can_be_seen_while_it_goes(shop: Workshop) -> None:
    seen: list[str] = []

    async def look() -> None:
        (item,) = await shop.all()
        found = shop.progress.of(item.id)
        assert found is not None
        seen.append(f"{found[0]}: {found[1]}")

    shop.wire.raises("fetching/source.fetch/1", "before", away)
    shop.wire.when("fetching/source.fetch/2", look)
    await shop.deploy()
    assert seen == ["fetching: nobody answers (git-unreachable); tried again in 2 s\n"]


async def test_an_agent_that_is_killed_between_two_tries_goes_on(shop: Workshop) -> None:
    """R-PL-2: nothing of it stands anywhere but in memory."""
    shop.wire.raises("fetching/source.fetch/1", "before", away)
    shop.wire.raises("fetching/source.fetch/2", "before", Killed)
    revision = await shop.push()
    assert not await shop.work()
    assert await shop.work()
    (done,) = await shop.all()
    assert (done.revision, done.state, done.interruptions) == (revision, State.SUCCEEDED, 0)


@pytest.mark.parametrize("code", ["git-refused", "branch-missing", "disk-full", "tree-refused"])
async def test_what_time_alone_does_not_mend_is_told_at_once(shop: Workshop, code: str) -> None:
    """F43"""
    shop.wire.raises("fetching/source.fetch/1", "before", lambda: StepFailed(code, "it cannot be done"))
    bad = await shop.deploy()
    assert (bad.state, bad.reason) == (State.FAILED, code)
    assert shop.wire.passed.count("fetching/source.fetch/1") == 1
    assert "fetching/source.fetch/2" not in shop.wire.passed


async def test_what_comes_while_it_waits_is_deployed_instead(shop: Workshop) -> None:
    """R-RX-23: the tip is looked up anew by each try."""
    newer: list[str] = []

    async def push() -> None:
        newer.append(await shop.push())

    shop.wire.raises("fetching/source.fetch/1", "before", away)
    shop.wire.when("fetching/source.fetch/2", push)
    await shop.push()
    assert await shop.work()
    assert await shop.live() == (await shop.of(newer[0])).release
    await shop.check()
