"""The polls of a service: the real poller, journal and lane over a repository that others push to."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from agent.core.errors import StepFailed, Unavailable
from agent.core.model import State
from agent.services.poller import NO_GATE, Poller
from agent.services.supervise import supervise
from agent.store.polls import Polls
from tests.fakes import FakeClock
from tests.services.workshop import HASH, SERVICE, Killed, Workshop, a_workshop


class Stopped(Exception):
    """Enough was slept."""


class Naps(FakeClock):
    """Notes every pause, and ends the loop after so many."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._left = left

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) == self._left:
            raise Stopped
        await super().sleep(seconds)


def a_poller(
    shop: Workshop, clock: FakeClock | None = None, chance: Callable[[], float] = lambda: 0.5
) -> Poller:
    polls = Polls(shop.database, shop.clock)
    return Poller(shop.site, polls, shop.lane.wake, clock or shop.clock, chance)


def note(poller: Poller) -> str:
    assert poller.last is not None
    return poller.last.note


async def test_a_push_whose_delivery_was_lost_is_found(shop: Workshop) -> None:
    """R-RX-26, F2."""
    await shop.deploy()
    revision = shop.commit()
    poller = a_poller(shop)
    await poller.poll()
    assert await shop.work()
    ended = await shop.of(revision)
    assert (ended.state, ended.trigger.kind) == (State.SUCCEEDED, "poll")
    assert poller.last is not None
    assert (poller.last.tip, poller.last.note) == (revision, "the tip was queued")
    await poller.poll()
    assert note(poller) == "the tip is live"


async def test_the_lane_is_woken(shop: Workshop) -> None:
    async with shop.agent() as task:
        await shop.idle(task)
        revision = shop.commit()
        await a_poller(shop).poll()
        await shop.idle(task)
        assert (await shop.of(revision)).state is State.SUCCEEDED


async def test_a_hundred_polls_after_a_rollback_change_nothing(shop: Workshop) -> None:
    """R-RB-2, F70: one end, no matter how often it is found."""
    good = await shop.deploy()
    bad = await shop.deploy("sick")
    assert bad.state is State.ROLLED_BACK
    poller, before = a_poller(shop), await shop.all()
    events = len(await shop.events.after(0, 10000))
    for _ in range(100):
        await poller.poll()
        shop.clock.advance(300)
    assert await shop.work()
    assert await shop.all() == before
    assert len(await shop.events.after(0, 10000)) == events
    assert await shop.live() == good.release
    assert "quarantined" in note(poller)


async def test_polls_after_a_person_went_back_change_nothing(shop: Workshop) -> None:
    """R-RB-2: the tip is what they left."""
    good, bad = await shop.deploy(), await shop.deploy()
    await shop.go_back()
    assert await shop.work()
    assert await shop.live() == good.release
    poller, before = a_poller(shop), await shop.all()
    for _ in range(10):
        await poller.poll()
    assert await shop.work()
    assert await shop.all() == before
    assert "quarantined" in note(poller)
    assert shop.remote.heads["main"] == bad.revision


async def test_a_poll_does_not_undo_where_a_person_went_under_another_configuration(shop: Workshop) -> None:
    """The quarantine of what they left does not count with it; their choice does."""
    good, _ = await shop.deploy(), await shop.deploy()
    await shop.go_back(good.release)
    assert await shop.work()
    assert await shop.live() == good.release
    polls = Polls(shop.database, shop.clock)
    await shop.database.write(lambda connection: connection.execute("DELETE FROM quarantine"))
    assert "a person chose" in await polls.found(SERVICE, shop.remote.heads["main"], HASH)


@pytest.mark.parametrize(("message", "paths"), [("docs [skip deploy]", []), ("docs", ["src/**"])])
async def test_what_was_passed_over_is_not_found_again(message: str, paths: list[str]) -> None:
    async with a_workshop(source={"repository": "/x", "paths": paths}) as shop:
        await shop.deploy()
        revision = shop.commit({"README.md": "x"}, message)
        poller = a_poller(shop)
        await poller.poll()
        assert await shop.work()
        ended = await shop.of(revision)
        assert ended.state is State.SUPERSEDED
        for _ in range(5):
            await poller.poll()
        assert [item.id for item in await shop.all() if item.revision == revision] == [ended.id]
        assert ended.reason in note(poller)


async def test_a_branch_that_was_reset_is_followed(shop: Workshop) -> None:
    """R-RX-24, F36."""
    first = await shop.deploy()
    await shop.deploy()
    shop.remote.heads["main"] = first.revision or ""
    await a_poller(shop).poll()
    assert await shop.work()
    newest = (await shop.all())[0]
    assert (newest.revision, newest.state, newest.trigger.kind) == (first.revision, State.SUCCEEDED, "poll")


async def test_without_push_among_its_gates_it_only_looks(shop: Workshop) -> None:
    """With workflow_run or release, a tip by itself says nothing."""
    deploy = msgspec.structs.replace(shop.settings.deploy, on=("workflow_run",))
    shop.settings = msgspec.structs.replace(shop.settings, deploy=deploy)
    shop.hire()
    revision = shop.commit()
    poller = a_poller(shop)
    await poller.poll()
    assert poller.last is not None
    assert (poller.last.tip, poller.last.note) == (revision, NO_GATE)
    assert await shop.all() == []


async def test_inside_a_freeze_the_tip_is_queued_once_and_waits(shop: Workshop) -> None:
    async with a_workshop(deploy={"freeze": [{"from": "sun 11:00", "to": "sun 13:00"}]}) as frozen:
        revision = frozen.commit()
        poller = a_poller(frozen)
        for _ in range(10):
            await poller.poll()
            assert await frozen.work()
        (waiting,) = await frozen.all()
        assert (waiting.revision, waiting.state) == (revision, State.QUEUED)


# --- trouble


def full() -> Unavailable:
    return Unavailable("store-unavailable", "database or disk is full")


async def test_a_failing_poll_is_told_once_and_once_more_when_it_works_again(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    """F33, F37, F44."""
    tip = shop.commit()
    clock = Naps(6)
    poller = a_poller(shop, clock)
    await poller.poll()
    shop.remote.gone = True
    with caplog.at_level(logging.INFO, "agent.services.poller"):
        caplog.clear()
        with pytest.raises(Stopped):
            await poller.run()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert poller.last is not None
        assert poller.last.tip == tip, "the last that was seen"
        assert "git-unreachable" in poller.last.note
        assert clock.pauses == [600, 1200, 2400, 2400, 2400, 2400]
        shop.remote.gone = False
        await poller.poll()
        await poller.poll()
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        assert "works again" in caplog.records[-1].message
    assert note(poller) == "the tip is on its way"


async def test_it_asks_at_the_start_and_then_at_its_interval_with_jitter(shop: Workshop) -> None:
    """R-RX-26."""
    shop.commit()
    chances = iter([0.0, 0.5, 1.0])
    clock = Naps(3)
    poller = a_poller(shop, clock, lambda: next(chances))
    with pytest.raises(Stopped):
        await poller.run()
    assert [round(seconds) for seconds in clock.pauses] == [270, 300, 330]
    assert len(await shop.all()) == 1


@pytest.mark.parametrize(("wanted", "pauses"), [(1000, [1000, 300]), (10.0, [600, 300]), (1e9, [3600, 300])])
async def test_a_remote_that_asks_to_be_left_alone_is_left_alone(
    shop: Workshop, wanted: float, pauses: list[float]
) -> None:
    """F44: an hour is the most that is believed; afterwards everything is as it was."""
    tip = shop.commit()
    clock = Naps(2)
    poller = a_poller(shop, clock)

    def limited() -> StepFailed:
        return StepFailed("git-unreachable", "error: 429", retry_after=wanted)

    shop.wire.raises("idle/source.peek/1", "before", limited)
    with pytest.raises(Stopped):
        await poller.run()
    assert clock.pauses == pauses
    assert poller.last is not None
    assert poller.last.tip == tip


async def test_a_clock_that_jumps_makes_neither_a_storm_nor_a_silence(shop: Workshop) -> None:
    """F53: a year ahead, to 1970 and back: the next poll is as far away as ever, and nothing is queued twice."""
    shop.commit()
    jumps = iter([365, -365, -56 * 365, 56 * 365, 0])

    class Jumping(Naps):
        async def sleep(self, seconds: float) -> None:
            self.set_wall(self.now() + timedelta(days=next(jumps)))
            await super().sleep(seconds)

    clock = Jumping(5)
    with pytest.raises(Stopped):
        await a_poller(shop, clock).run()
    assert clock.pauses == [300] * 5
    assert len(await shop.all()) == 1


@pytest.mark.parametrize("error", [full, lambda: StepFailed("git-timeout", "not done in time")])
async def test_trouble_of_any_kind_is_over_when_it_is_over(
    shop: Workshop, error: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = shop.commit()
    poller = a_poller(shop)

    async def fails(*_: Any) -> str:
        raise error()

    with monkeypatch.context() as patch:
        patch.setattr(Polls, "found", fails)
        await poller.poll()
        assert "(" in note(poller)
        assert await shop.all() == []
    await poller.poll()
    assert (await shop.of(revision)).state is State.QUEUED


async def test_an_agent_that_dies_after_the_poll_has_queued_it(shop: Workshop) -> None:
    """F1 for polls: what was queued is queued, and it is queued once."""
    revision = shop.commit()
    poller = a_poller(shop)
    await poller.poll()
    shop.wire.raises("fetching/source.fetch/1", "before", Killed)
    assert not await shop.work()
    await a_poller(shop).poll()
    assert await shop.work()
    (only,) = await shop.all()
    assert (only.revision, only.state) == (revision, State.SUCCEEDED)


@asynccontextmanager
async def polling(poller: Poller, clock: FakeClock) -> AsyncIterator[None]:
    task = asyncio.create_task(supervise("poller", poller.run, clock))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_polls_beside_everything_else_deploy_each_commit_once(shop: Workshop) -> None:
    """F94: a poller that never rests, deliveries, and a person, all for the same commits."""
    clock = FakeClock()  # its own: a poller that never rests must not make the service's time run
    async with shop.agent() as task, polling(a_poller(shop, clock), clock):
        for _ in range(5):
            revision = await shop.push()
            await shop.ask(revision)
            async with asyncio.timeout(60):
                while (await shop.live() or "").partition("-")[2] != revision[:7]:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0)
        await shop.idle(task)
    every = [item for item in await shop.all() if item.reason != "already-live"]
    assert len({item.revision for item in every}) == len(every) == 5
