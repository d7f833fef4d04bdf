"""The health of what is live, asked outside of deployments."""

import asyncio
from contextvars import ContextVar

import pytest

from agent.core.errors import StepFailed, Unavailable
from agent.core.model import State
from agent.services.monitor import Monitor
from agent.services.supervise import supervise
from tests.services.workshop import SERVICE, Killed, Workshop


class Watchman:
    """A monitor over the workshop's service, and what it told."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.monitor = Monitor(
            {SERVICE: shop.site}, shop.services, shop.events, lambda _: shop.lane.busy, 15, shop.clock
        )

    async def looks(self, times: int = 1) -> tuple[str, str]:
        for _ in range(times):
            await self.monitor.look(SERVICE)
        return self.monitor.health()[SERVICE]

    async def events(self) -> list[str]:
        every = await self.shop.events.after(0, 10000)
        return [event.name for event in every if event.name in ("service.healthy", "service.unhealthy")]


@pytest.fixture
async def watchman(shop: Workshop) -> Watchman:
    """Before a service that was deployed and is well."""
    assert (await shop.deploy()).state is State.SUCCEEDED
    return Watchman(shop)


def make_sick(watchman: Watchman, mood: str = "sick") -> None:
    running = watchman.shop.runtime.running
    assert running is not None
    watchman.shop.runtime.moods[running.release] = mood


async def test_before_the_first_deployment_there_is_none(shop: Workshop) -> None:
    watchman = Watchman(shop)
    assert watchman.monitor.health() == {}
    assert await watchman.looks(3) == ("none", "")
    assert await watchman.events() == []


async def test_it_is_none_from_the_first_answer_on(shop: Workshop) -> None:
    """And of what is live nothing is said before somebody looked."""
    watchman = Watchman(shop)
    await watchman.monitor.prime()
    assert watchman.monitor.health() == {SERVICE: ("none", "")}
    assert (await shop.deploy()).state is State.SUCCEEDED
    later = Watchman(shop)
    await later.monitor.prime()
    assert later.monitor.health() == {}


async def test_one_good_look_makes_it_healthy_and_is_no_event(watchman: Watchman) -> None:
    assert await watchman.looks() == ("healthy", "")
    assert await watchman.events() == []


async def test_one_bad_look_is_an_accident_and_two_in_a_row_are_a_state(watchman: Watchman) -> None:
    await watchman.looks()
    make_sick(watchman)
    assert (await watchman.looks())[0] == "healthy"
    make_sick(watchman, "good")
    assert (await watchman.looks())[0] == "healthy"
    make_sick(watchman)
    assert await watchman.looks(2) == ("unhealthy", "1-6675969 is sick")


async def test_a_dead_process_is_told_at_once(watchman: Watchman) -> None:
    """F67: the process dies long after the deployment."""
    await watchman.looks()
    watchman.shop.runtime.die()
    assert await watchman.looks() == ("unhealthy", "the process is not running")
    assert await watchman.events() == ["service.unhealthy"]


async def test_events_come_on_a_change_only(watchman: Watchman) -> None:
    for mood, looks in (("good", 3), ("sick", 5), ("good", 4), ("sick", 2), ("good", 1)):
        make_sick(watchman, mood)
        await watchman.looks(looks)
    assert await watchman.events() == ["service.unhealthy", "service.healthy"] * 2


async def test_what_is_found_dead_at_the_first_look_is_an_event(watchman: Watchman) -> None:
    """It died while no agent ran: nobody else would tell."""
    watchman.shop.runtime.die()
    assert (await watchman.looks(3))[0] == "unhealthy"
    assert await watchman.events() == ["service.unhealthy"]


async def test_an_event_that_cannot_be_written_is_written_later(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*arguments: object, **values: object) -> None:
        raise Unavailable("store-unavailable", "full")

    await watchman.looks()
    watchman.shop.runtime.die()
    with monkeypatch.context() as disk:
        disk.setattr(watchman.shop.events, "record", full)
        with pytest.raises(Unavailable):
            await watchman.looks()
        assert watchman.monitor.health()[SERVICE][0] == "unhealthy", "the answer needs no disk"
    await watchman.looks(2)
    assert await watchman.events() == ["service.unhealthy"]


async def test_another_release_than_the_live_one_counts_as_not_running(watchman: Watchman) -> None:
    shop = watchman.shop
    running = shop.runtime.running
    assert running is not None
    shop.runtime.running = type(running)(release="9-fffffff", instance="i9", pid=9)
    assert (await watchman.looks())[0] == "unhealthy"


async def test_who_answers_on_anothers_socket_is_not_healthy(watchman: Watchman) -> None:
    """F65."""
    shop = watchman.shop
    shop.runtime.listens = lambda host, port: answered(False)  # type: ignore[method-assign]
    assert (await watchman.looks(2))[0] == "unhealthy"
    assert "another process answers" in (await watchman.looks())[1]
    shop.runtime.listens = lambda host, port: answered(None)  # type: ignore[method-assign]
    assert (await watchman.looks())[0] == "healthy"


async def answered(value: bool | None) -> bool | None:
    return value


async def test_held_is_told_while_it_is_healthy(watchman: Watchman) -> None:
    shop = watchman.shop
    await shop.services.hold(SERVICE, actor="me", reason="holidays")
    assert await watchman.looks() == ("held", "holidays")
    make_sick(watchman)
    assert (await watchman.looks(2))[0] == "unhealthy"
    make_sick(watchman, "good")
    assert (await watchman.looks())[0] == "held"
    await shop.resume()
    assert await watchman.looks() == ("healthy", "")
    assert await watchman.events() == ["service.unhealthy", "service.healthy"]


async def test_a_hold_counts_at_once_and_asks_nobody(watchman: Watchman) -> None:
    """Not at the next look, a quarter of a minute later: who resumes a service is not told that it is held."""
    shop = watchman.shop
    assert await watchman.looks() == ("healthy", "")
    make_sick(watchman)
    await shop.services.hold(SERVICE, actor="me", reason="holidays")
    await watchman.monitor.regard(SERVICE)
    assert watchman.monitor.health()[SERVICE] == ("held", "holidays")
    await shop.resume()
    await watchman.monitor.regard(SERVICE)
    assert watchman.monitor.health()[SERVICE] == ("healthy", "")
    assert await watchman.events() == []


async def test_a_hold_before_the_first_deployment_counts_at_once_too(shop: Workshop) -> None:
    watchman = Watchman(shop)
    await shop.services.hold(SERVICE, actor="me", reason="not yet")
    await watchman.monitor.regard(SERVICE)
    assert watchman.monitor.health() == {SERVICE: ("held", "not yet")}
    await shop.resume()
    await watchman.monitor.regard(SERVICE)
    assert watchman.monitor.health() == {SERVICE: ("none", "")}


async def test_what_was_stopped_for_good_is_not_healthy_again(watchman: Watchman) -> None:
    shop = watchman.shop
    await watchman.looks()
    shop.runtime.die()
    await watchman.looks()
    for tree in shop.disk.trees.values():
        tree["n"] = "gone"
    shop.releases.lose_all()
    failing = StepFailed("build-failed", "exit status 3")
    shop.wire.raises("rolling_back/builder.build/1", "before", lambda: failing, times=9)
    assert (await shop.deploy("sick")).reason == "no-fallback"
    assert await watchman.looks() == ("none", "")
    assert await watchman.events() == ["service.unhealthy"]


async def test_during_a_deployment_it_asks_nothing_and_the_last_answer_stands(watchman: Watchman) -> None:
    shop = watchman.shop
    await watchman.looks()
    make_sick(watchman)
    asked = shop.wire.counts.total()
    async with shop.lock:
        assert shop.lane.busy
        assert (await watchman.looks(5))[0] == "healthy"
        assert shop.wire.counts.total() == asked
    assert (await watchman.looks(2))[0] == "unhealthy"


async def test_a_look_that_a_deployment_overtook_does_not_count(watchman: Watchman) -> None:
    shop = watchman.shop
    await watchman.looks()
    shop.runtime.die()

    begun: list[asyncio.Future[bool]] = []

    def overtake() -> None:
        begun.append(asyncio.ensure_future(shop.lock.acquire()))

    number = shop.wire.counts["ended/probe.ask"] + shop.wire.counts["idle/probe.ask"] + 1
    shop.wire.trip(f"{shop.wire.state}/probe.ask/{number}", "before", overtake)
    assert (await watchman.looks())[0] == "healthy"
    assert shop.wire.done
    shop.lock.release()
    assert (await watchman.looks())[0] == "unhealthy"


async def test_a_deployment_beside_it_ends_as_ever(shop: Workshop) -> None:
    """It looks at every act of a deployment, and neither starts, stops nor blames anything."""
    watchman = Watchman(shop)
    looks: set[asyncio.Task[None]] = set()
    looking = ContextVar("looking", default=False)

    async def look_once() -> None:
        looking.set(True)  # for the tasks of this look as well
        await watchman.monitor.look(SERVICE)

    def look(phase: str) -> None:
        if not looking.get():
            looks.add(asyncio.ensure_future(look_once()))

    for mood, state in (("good", State.SUCCEEDED), ("sick", State.ROLLED_BACK), ("good", State.SUCCEEDED)):
        shop.wire.watch = look
        assert (await shop.deploy(mood)).state is state
        shop.wire.watch = lambda phase: None
        await asyncio.wait(looks)
        await shop.check()
    assert (await watchman.looks())[0] == "healthy"
    assert "service.unhealthy" not in await watchman.events()


@pytest.mark.parametrize(
    "error",
    [Unavailable("store-unavailable", "full"), StepFailed("runtime-failed", "somebody else is at it")],
)
async def test_a_service_that_cannot_be_looked_at_does_not_hide_the_others(
    watchman: Watchman, error: Exception
) -> None:
    shop = watchman.shop
    other = Monitor(
        {"broken": shop.site, SERVICE: shop.site}, shop.services, shop.events, lambda _: False, 15, shop.clock
    )
    look, turns = other.look, list[str]()

    async def looked(name: str) -> None:
        if name == "broken":
            raise error
        await look(name)
        turns.append(name)
        if len(turns) == 3:
            raise Killed

    other.look = looked  # type: ignore[method-assign]
    began = shop.clock.monotonic()
    with pytest.raises(Killed):
        await asyncio.wait_for(supervise("monitor", other.run, shop.clock), 5)
    assert shop.clock.monotonic() - began == 30, "no pause of the supervisor was needed"
    assert other.health()[SERVICE][0] == "healthy"
