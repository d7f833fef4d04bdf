"""Crews that relieve each other: nothing is interrupted, nothing is done twice, nobody works beside another."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from agent.core.model import Deployment, State
from agent.core.pipeline import ENDS
from agent.services.deployer import Deployer
from agent.services.lanes import Lane
from agent.services.progress import Progress
from agent.services.roster import Crew, Derived, Roster
from tests.services.workshop import HASH, SERVICE, Workshop, a_workshop

Beside = Mapping[str, Callable[[], Awaitable[None]]]


class Yard:
    """A roster over the workshop. A crew is told apart by its configuration's hash."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.roster = Roster(shop.clock)
        self.ended: list[tuple[str, Deployment]] = []

    def crew(self, config_hash: str = HASH, beside: Beside | None = None) -> Crew:
        shop = self.shop
        site = dataclasses.replace(shop.site, config_hash=config_hash)
        journal, services = shop._wired("journal", shop.journal), shop._wired("services", shop.services)
        rollbacks, saves = shop._wired("rollbacks", shop.rollbacks), shop._wired("saves", shop.saves)
        deployer = Deployer(site, journal, services, rollbacks, saves, shop.clock, Progress())
        lock = self.roster.locks[SERVICE] = shop.lock  # the one that the fake of the backups knows
        lane = Lane(
            site, deployer, journal, services, rollbacks, lock, shop.clock,
            lambda deployment: self.ended.append((config_hash, deployment)),
        )  # fmt: skip
        return Crew(site=site, lane=lane, beside=beside or {})

    async def all(self) -> dict[str, Deployment]:
        return {item.id: item for item in await self.shop.all()}

    async def rest(self) -> None:
        """Until nothing is queued or going on any more, and whoever did it knows."""
        async with asyncio.timeout(60):
            while any(item.state not in ENDS for item in await self.shop.all()) or self.shop.lock.locked():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def settled(self) -> None:
        """Until the crew that was assigned last is at work."""
        async with asyncio.timeout(60):
            while self.roster._posts[SERVICE]._next is not None:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.roster.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
async def yard(shop: Workshop) -> Yard:
    """One service with a crew that has not begun."""
    made = Yard(shop)
    made.roster.assign(made.crew())
    return made


async def test_an_idle_crew_is_relieved_at_once(yard: Yard) -> None:
    async with yard.open():
        yard.roster.assign(yard.crew("new"))
        await yard.settled()
        assert yard.roster.sites[SERVICE].config_hash == "new"
        revision = await yard.shop.push()
        yard.roster.wake(SERVICE)
        await yard.rest()
    done = await yard.shop.of(revision)
    assert (done.state, done.config_hash) == (State.SUCCEEDED, "new")
    await yard.shop.check()


async def places(mood: str) -> list[str]:
    """Every act of a deployment over another one, by the name under which a wire knows it."""
    async with a_workshop() as shop:
        yard = Yard(shop)
        await shop.deploy()
        shop.wire.forget()
        yard.roster.assign(yard.crew())
        async with yard.open():
            await shop.push(mood)
            yard.roster.wake(SERVICE)
            await yard.rest()
            return [
                place
                for place in dict.fromkeys(shop.wire.passed)
                if not place.startswith(("idle/", "ended/"))
            ]


@pytest.mark.parametrize("mood", ["good", "sick"])
@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_deployment_ends_as_it_began_wherever_a_reload_meets_it(mood: str, phase: str) -> None:
    """R-SD-8: in every state, at every act; also where it is rolled back. What comes next has the new settings."""
    met = await places(mood)
    states = {place.partition("/")[0] for place in met}
    assert {"fetching", "building", "backing_up", "switching", "verifying"} <= states
    for place in met:
        async with a_workshop() as shop:
            yard = Yard(shop)
            first = await shop.deploy()
            shop.wire.forget()
            yard.roster.assign(yard.crew())
            shop.wire.trip(place, phase, lambda yard=yard: yard.roster.assign(yard.crew("new")))  # type: ignore[misc]
            async with yard.open():
                second = await shop.push(mood)
                yard.roster.wake(SERVICE)
                await yard.rest()
                await yard.settled()
                assert shop.wire.done, f"{place} was not passed"
                third = await shop.push()
                yard.roster.wake(SERVICE)
                await yard.rest()
            ended = await shop.of(second)
            assert ended.state is (State.SUCCEEDED if mood == "good" else State.ROLLED_BACK), place
            assert (ended.config_hash, ended.interruptions) == (HASH, 0), place
            after = await shop.of(third)
            assert (after.state, after.config_hash) == (State.SUCCEEDED, "new"), place
            assert [who for who, _ in yard.ended] == [HASH, "new"], place
            assert first.state is State.SUCCEEDED
            await shop.check()


async def test_what_is_queued_is_left_to_the_next_crew(yard: Yard) -> None:
    shop = yard.shop
    met = asyncio.Event()
    async with yard.open():
        shop.wire.trip("building/builder.build/1", "before", met.set)
        first = await shop.push()
        yard.roster.wake(SERVICE)
        await met.wait()
        second = await shop.push()
        yard.roster.assign(yard.crew("new"))
        await yard.rest()
    assert (await shop.of(first)).config_hash == HASH
    assert (await shop.of(second)).config_hash == "new"
    await shop.check()


async def test_of_many_reloads_during_a_deployment_the_last_one_counts(yard: Yard) -> None:
    shop = yard.shop

    def reload_thrice() -> None:
        for name in ("a", "b", "c"):
            yard.roster.assign(yard.crew(name))

    async with yard.open():
        shop.wire.trip("verifying/probe.ask/1", "before", reload_thrice)
        await shop.push()
        yard.roster.wake(SERVICE)
        await yard.rest()
        await yard.settled()
        last = await shop.push()
        yard.roster.wake(SERVICE)
        await yard.rest()
    assert (await shop.of(last)).config_hash == "c"


async def test_a_dismissed_crew_ends_what_it_does_and_nobody_comes(yard: Yard) -> None:
    """The service is left running, what is queued stays in the journal."""
    shop = yard.shop
    async with yard.open():
        shop.wire.trip("switching/runtime.stop/1", "before", lambda: yard.roster.dismiss(SERVICE))
        first = await shop.push()
        await shop.deliver(first)
        yard.roster.wake(SERVICE)
        async with asyncio.timeout(60):
            while yard.roster._posts:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.002)
        running = shop.runtime.running
        assert running is not None
        assert (await shop.of(first)).state is State.SUCCEEDED
        second = await shop.push()
        yard.roster.wake(SERVICE)
        await asyncio.sleep(0.02)
        assert (await shop.of(second)).state is State.QUEUED
        assert shop.runtime.running == running
        yard.roster.assign(yard.crew("again"))
        await yard.rest()
        done = await shop.of(second)
        assert (done.state, done.config_hash) == (State.SUCCEEDED, "again")
    await shop.check()


async def test_one_that_is_added_again_before_it_has_ended_never_works_beside_itself(yard: Yard) -> None:
    shop = yard.shop

    def out_and_in() -> None:
        yard.roster.dismiss(SERVICE)
        yard.roster.assign(yard.crew("again"))

    async with yard.open():
        shop.wire.trip("building/builder.build/1", "before", out_and_in)
        first = await shop.push()
        yard.roster.wake(SERVICE)
        await yard.rest()
        await yard.settled()
        assert list(yard.roster._posts) == [SERVICE]
    assert (await shop.of(first)).interruptions == 0
    await shop.check()


async def test_a_backup_that_is_going_on_is_waited_for(yard: Yard) -> None:
    async with yard.open():
        await yard.shop.wire.idle.wait()
        async with yard.shop.lock:
            await yard.shop.push()
            yard.roster.wake(SERVICE)
            await asyncio.sleep(0.01)
            assert yard.roster.busy(SERVICE)
            yard.roster.assign(yard.crew("new"))
            await asyncio.sleep(0.01)
            assert yard.roster.sites[SERVICE].config_hash == HASH
        await yard.rest()
        (done,) = await yard.shop.all()
        assert done.config_hash == "new", "the crew that had waited begins nothing any more"


async def test_fifty_reloads_leave_no_task_behind(yard: Yard) -> None:
    async with yard.open():
        await yard.settled()
        before = len(asyncio.all_tasks())
        for number in range(50):
            yard.roster.assign(yard.crew(str(number)))
            await yard.settled()
        assert len(asyncio.all_tasks()) == before
        assert list(yard.roster._posts) == [SERVICE]


async def test_a_reload_starts_again_what_is_live_and_does_not_run_and_leaves_alone_what_runs(
    yard: Yard,
) -> None:
    shop = yard.shop
    async with yard.open():
        await shop.push()
        yard.roster.wake(SERVICE)
        await yard.rest()
        before = shop.runtime.running
        yard.roster.assign(yard.crew("new"))
        await yard.settled()
        await asyncio.sleep(0.02)
        assert shop.runtime.running == before


async def test_what_runs_beside_a_lane_comes_and_goes_with_it(shop: Workshop) -> None:
    yard, running = Yard(shop), set[str]()

    def beside(name: str) -> Beside:
        async def run() -> None:
            running.add(name)
            try:
                await asyncio.Event().wait()
            finally:
                running.remove(name)

        return {name: run}

    async def runs(*names: str) -> None:
        async with asyncio.timeout(60):
            while running != set(names):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.001)

    yard.roster.assign(yard.crew("a", beside("a")))
    async with yard.open():
        await runs("a")
        yard.roster.assign(yard.crew("b", beside("b")))
        await runs("b")
        yard.roster.dismiss(SERVICE)
        await runs()
        assert yard.roster._posts == {}


async def test_what_follows_from_a_site_follows_from_the_one_of_now(yard: Yard) -> None:
    hashes = Derived(yard.roster.sites, lambda site: site.config_hash)
    assert dict(hashes) == {SERVICE: HASH}
    async with yard.open():
        yard.roster.assign(yard.crew("new"))
        await yard.settled()
        assert (dict(hashes), len(hashes)) == ({SERVICE: "new"}, 1)
