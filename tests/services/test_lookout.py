"""Looking on while a service is switched, on the real clock."""

import asyncio

import pytest

from agent.services.lookout import Lookout
from agent.system.clock import SystemClock


class Door:
    """Opens and closes as the test says."""

    def __init__(self) -> None:
        self.open = True
        self.knocks = 0
        self.knocked = asyncio.Event()

    async def knock(self) -> bool:
        self.knocks += 1
        self.knocked.set()
        await asyncio.sleep(0)
        return self.open


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def lookout(door: Door) -> Lookout:
    return Lookout(door, SystemClock())


async def knocked(door: Door, times: int) -> None:
    """Until so many more knocks were begun."""
    for _ in range(times):
        door.knocked.clear()
        await asyncio.wait_for(door.knocked.wait(), 60)


async def test_it_sees_a_door_that_is_shut_for_a_while(door: Door, lookout: Lookout) -> None:
    lookout.begin()
    await knocked(door, 2)
    door.open = False
    await knocked(door, 4)
    door.open = True
    await knocked(door, 2)
    seen = await lookout.end()
    assert seen is not None
    assert 3 <= seen.failed <= 5
    assert seen.seconds >= 0.15
    assert seen.asked >= 7


async def test_it_knocks_only_between_begin_and_end(door: Door, lookout: Lookout) -> None:
    assert await lookout.end() is None
    lookout.begin()
    lookout.begin()
    await knocked(door, 1)
    assert await lookout.end() is not None
    before = door.knocks
    await asyncio.sleep(0.12)
    assert door.knocks == before
    assert await lookout.end() is None


async def test_what_began_unseen_is_not_told_and_the_next_one_is(door: Door, lookout: Lookout) -> None:
    lookout.blind()
    lookout.begin()
    assert await lookout.end() is None
    lookout.begin()
    await knocked(door, 1)
    assert await lookout.end() is not None


async def test_without_a_door_nothing_is_done() -> None:
    lookout = Lookout(None, SystemClock())
    lookout.begin()
    assert await lookout.end() is None


async def test_each_is_told_by_itself(door: Door, lookout: Lookout) -> None:
    door.open = False
    lookout.begin()
    await knocked(door, 2)
    await lookout.end()
    door.open = True
    lookout.begin()
    await knocked(door, 2)
    seen = await lookout.end()
    assert seen is not None
    assert seen.failed == 0


async def test_who_is_told_to_stop_while_it_ends_stops(door: Door, lookout: Lookout) -> None:
    """R-SD-7: else an agent that is told to stop at a deployment's end would begin the next one."""

    async def knock() -> bool:
        door.knocked.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.1)
        return True

    door.knock = knock  # type: ignore[method-assign]
    lookout.begin()
    await knocked(door, 1)
    ending = asyncio.create_task(lookout.end())
    await asyncio.sleep(0.02)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending


async def test_a_door_that_fails_does_not_fail_the_deployment(door: Door, lookout: Lookout) -> None:
    async def knock() -> bool:
        door.knocked.set()
        raise RuntimeError("no such thing")

    door.knock = knock  # type: ignore[method-assign]
    lookout.begin()
    await knocked(door, 1)
    assert await lookout.end() is None
