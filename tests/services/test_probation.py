"""A version that falls ill soon after its deployment goes back, once; later it is started again."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest

from agent.core.model import Deployment, State
from tests.services.test_healing import Ward
from tests.services.workshop import HASH, QUICK, SERVICE, Workshop, a_workshop

PROBATION = {"probation": 900}


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    """One service with a probation of 15 minutes."""
    async with a_workshop(rollback=PROBATION) as made:
        yield made


@pytest.fixture
async def novice(shop: Workshop) -> Ward:
    """Its second version; both were well so far."""
    return await settle(shop)


async def settle(shop: Workshop) -> Ward:
    for _ in range(2):
        assert (await shop.deploy()).state is State.SUCCEEDED
    return Ward(shop)


async def releases(ward: Ward) -> list[Deployment]:
    """The two deployments that made them, the older one first."""
    return (await ward.shop.all())[-2:][::-1]


async def back(ward: Ward) -> Deployment:
    """What the lane makes of what the healer asked for."""
    assert await ward.shop.work()
    return (await ward.shop.all())[0]


async def test_on_probation_a_version_that_dies_goes_back_instead(novice: Ward) -> None:
    """R-RB-8, F67."""
    first, second = await releases(novice)
    novice.shop.clock.advance(890)
    novice.shop.runtime.die()
    await novice.rounds()
    gone = await back(novice)
    assert (gone.state, gone.reason, gone.release) == (State.ROLLED_BACK, "probation-failed", first.release)
    assert (gone.trigger.kind, gone.trigger.event) == ("poll", "probation")
    assert await novice.shop.live() == first.release
    assert await novice.shop.quarantined(second.revision or "")
    assert "service.restarted" not in await novice.names()
    events = await novice.shop.events.after(0, 1000)
    queued = [event for event in events if event.name == "deployment.queued" and event.deployment == gone.id]
    assert queued[0].data["reason"] == "the process is not running"
    await novice.shop.check()


async def test_it_goes_back_once_and_what_it_went_back_to_is_started_again(novice: Ward) -> None:
    """R-RB-8: also if that was deployed a moment ago, too."""
    assert (await novice.shop.deploy()).state is State.SUCCEEDED
    novice.shop.runtime.die()
    await novice.rounds()
    gone = await back(novice)
    novice.shop.runtime.die()
    await novice.rounds(3)
    assert (await back(novice)).id == gone.id
    assert (await novice.names()).count("service.restarted") == 1


async def test_when_the_probation_is_over_it_is_started_again(novice: Ward) -> None:
    _, second = await releases(novice)
    novice.shop.clock.advance(901)
    novice.shop.runtime.die()
    await novice.rounds()
    await back(novice)
    assert await novice.shop.live() == second.release
    assert (await novice.names()).count("service.restarted") == 1


async def test_a_clock_that_was_set_back_ends_the_probation(novice: Ward) -> None:
    """A Pi without a battery boots in the past: it does not go back from what served for weeks."""
    _, second = await releases(novice)
    novice.shop.clock.set_wall(novice.shop.clock.now() - timedelta(hours=1))
    novice.shop.runtime.die()
    await novice.rounds()
    await back(novice)
    assert await novice.shop.live() == second.release


async def test_a_held_service_is_started_again_and_stays(novice: Ward) -> None:
    _, second = await releases(novice)
    await novice.shop.services.hold(SERVICE, actor="me")
    novice.shop.runtime.die()
    await novice.rounds()
    await back(novice)
    assert await novice.shop.live() == second.release
    assert (await novice.names()).count("service.restarted") == 1


async def test_who_is_held_while_its_rollback_waits_is_started_again(novice: Ward) -> None:
    """The rollback waits for a person who resumes it, the service does not."""
    novice.shop.runtime.die()
    await novice.rounds()
    await novice.shop.services.hold(SERVICE, actor="me")
    await novice.rounds()
    assert (await novice.names()).count("service.restarted") == 1


async def test_without_an_earlier_release_it_is_started_again(shop: Workshop) -> None:
    assert (await shop.deploy()).state is State.SUCCEEDED
    ward = Ward(shop)
    shop.runtime.die()
    await ward.rounds()
    assert (await ward.names()).count("service.restarted") == 1


async def test_systemd_s_own_restart_does_not_save_it(novice: Ward) -> None:
    """`Restart=always` would keep a version that dies again and again for ever."""
    first, _ = await releases(novice)
    novice.shop.runtime.die()
    novice.shop.runtime.recovering = True
    await novice.rounds()
    assert (await back(novice)).reason == "probation-failed"
    assert await novice.shop.live() == first.release


async def test_without_restarts_it_goes_back_and_is_otherwise_left_alone() -> None:
    async with a_workshop(rollback=PROBATION, health=QUICK | {"restarts": 0}) as shop:
        ward = await settle(shop)
        for _ in range(2):
            shop.runtime.die()
            await ward.rounds(3)
            assert (await back(ward)).reason == "probation-failed"
        assert not await shop.held()
        assert "service.restarted" not in await ward.names()


async def test_two_looks_before_its_turn_make_one_rollback(novice: Ward) -> None:
    novice.shop.runtime.die()
    _, second = await releases(novice)
    ask = partial(
        novice.shop.rollbacks.leave, SERVICE, second.release or "", within=900, detail="x", config_hash=HASH
    )
    made = [await ask() for _ in range(2)]
    assert made[0] is not None
    assert made[0] == made[1]
