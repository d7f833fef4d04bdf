"""R-SD-6: the agent is called alive as long as its loops come by, whatever they are at; and no longer."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from agent.core import patience
from agent.core.errors import Unavailable
from agent.core.settings import ProcessRuntime, Service
from agent.services.heartbeat import Heartbeat, at_rest, within
from agent.services.monitor import Monitor
from agent.services.replace import replace
from agent.services.roster import Crew, Roster
from agent.services.step import release_of
from agent.services.supervise import LONGEST_PAUSE, supervise
from agent.services.watchdog import Watchdog
from tests.build import a_service
from tests.fakes import FakeClock
from tests.services.workshop import SERVICE, Workshop, a_workshop


class Kennel:
    """A watchdog, and what it said."""

    def __init__(self, clock: FakeClock, every: float | None = 30.0) -> None:
        self.clock = clock
        self.heartbeat = Heartbeat(clock)
        self.fed = 0
        self.told: list[str] = []
        self.services = 1
        self.watchdog = Watchdog(
            self.heartbeat, clock, every=every, feed=self.feed, tell=self.told.append, services=lambda: self.services
        )  # fmt: skip

    def feed(self) -> None:
        self.fed += 1

    def looks(self, times: int = 1) -> int:
        """How often it fed."""
        before = self.fed
        for _ in range(times):
            self.watchdog.look()
        return self.fed - before


@pytest.fixture
def kennel(clock: FakeClock) -> Kennel:
    return Kennel(clock)


def broken(heartbeat: Heartbeat) -> list[tuple[str, str]]:
    return [(promise.who, promise.doing) for promise in heartbeat.broken()]


# --- the watchdog


def test_it_feeds_while_every_promise_is_kept(kennel: Kennel) -> None:
    kennel.heartbeat.of("lane app")(100, "building")
    kennel.heartbeat.of("monitor")(15, "")
    assert kennel.looks(3) == 3
    kennel.clock.advance(14)
    assert kennel.looks() == 1


def test_who_is_stuck_is_told_once_and_so_is_that_it_goes_on(
    kennel: Kennel, caplog: pytest.LogCaptureFixture
) -> None:
    beat = kennel.heartbeat.of("lane app")
    beat(100, "building")
    kennel.clock.advance(101)
    assert kennel.looks(3) == 0
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "lane app is stuck while building"
    ]
    caplog.clear()
    beat(100, "")
    assert kennel.looks(2) == 2
    assert [record.message for record in caplog.records] == ["lane app goes on"]


def test_one_that_is_stuck_is_enough(kennel: Kennel) -> None:
    kennel.heartbeat.of("monitor")(15, "")
    kennel.clock.advance(16)
    kennel.heartbeat.of("lane app")(100, "")
    assert kennel.looks() == 0


async def test_it_looks_as_often_as_is_wanted(kennel: Kennel) -> None:
    began = kennel.clock.monotonic()
    task = asyncio.create_task(kennel.watchdog.run())
    while kennel.fed < 5:  # noqa: ASYNC110 - the clock jumps
        await asyncio.sleep(0)
    task.cancel()
    assert kennel.clock.monotonic() - began == pytest.approx(30 * 4, abs=31)


async def test_where_nobody_wants_to_be_fed_nothing_is_looked_at(clock: FakeClock) -> None:
    kennel = Kennel(clock, every=None)
    began = clock.monotonic()
    async with asyncio.timeout(60):
        await kennel.watchdog.run()
    assert (kennel.fed, clock.monotonic()) == (0, began)
    kennel.heartbeat.of("lane app")(100, "building")
    assert kennel.told == ["1 service", "1 service; app: building"], "that costs nothing at rest"


async def test_what_goes_on_is_told_when_it_changes(kennel: Kennel) -> None:
    kennel.heartbeat.changed = kennel.watchdog.report
    beat = kennel.heartbeat.of("lane app")
    for doing in ("", "fetching", "fetching", "building", "", ""):
        beat(100, doing)
        kennel.watchdog.report()
    kennel.services = 2
    kennel.watchdog.report()
    assert kennel.told == [
        "1 service", "1 service; app: fetching", "1 service; app: building", "1 service", "2 services",
    ]  # fmt: skip


def test_an_agent_that_is_being_stopped_is_called_alive_to_its_end(kennel: Kennel) -> None:
    """R-SD-7: how long that may take says TimeoutStopSec; the switch is finished meanwhile."""
    kennel.heartbeat.of("lane app")(100, "switching")
    kennel.heartbeat.end()
    kennel.heartbeat.of("lane app")(10, "switching")
    kennel.clock.advance(1000)
    assert kennel.looks() == 1


# --- whose promise it is


async def test_who_is_not_supervised_promises_nothing(shop: Workshop) -> None:
    """A request uses the same parts: it does not speak for the lane."""
    ended = await shop.deploy()
    shop.heartbeat.of("lane")(50, "")
    await replace(shop.site, release_of(ended))
    within(1, "restoring")
    at_rest()
    shop.clock.advance(49)
    assert broken(shop.heartbeat) == []
    shop.clock.advance(2)
    assert broken(shop.heartbeat) == [("lane", "")]


async def test_tasks_that_a_loop_begins_speak_for_it(clock: FakeClock) -> None:
    heartbeat = Heartbeat(clock)

    async def part(seconds: float) -> None:
        within(seconds, "part")

    async def run() -> None:
        await asyncio.create_task(part(70))

    await supervise("loop", run, clock, heartbeat.of("loop"))
    assert heartbeat.doing() == {"loop": "part"}
    within(1, "after it")
    assert heartbeat.doing() == {"loop": "part"}


async def test_a_loop_that_fails_again_and_again_is_not_stuck(clock: FakeClock) -> None:
    """It is told and started again; to end the agent would not mend it."""
    heartbeat, seen, starts = Heartbeat(clock), [], 0

    async def run() -> None:
        nonlocal starts
        starts += 1
        seen.append(broken(heartbeat))
        if starts < 12:
            raise RuntimeError("a defect")

    logging.getLogger("agent.services.supervise").setLevel(logging.CRITICAL)
    try:
        await supervise("loop", run, clock, heartbeat.of("loop"))
    finally:
        logging.getLogger("agent.services.supervise").setLevel(logging.NOTSET)
    assert seen == [[]] * 12
    clock.advance(LONGEST_PAUSE)
    assert broken(heartbeat) == []


async def test_a_loop_that_has_returned_is_missed(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitor that died, however quietly."""

    async def run(self: Monitor) -> None:
        within(15 + patience.MARGIN)

    monkeypatch.setattr(Monitor, "run", run)
    monitor = Monitor({SERVICE: shop.site}, shop.services, shop.events, lambda _: False, 15, shop.clock)
    await supervise("monitor", monitor.run, shop.clock, shop.heartbeat.of("monitor"))
    shop.clock.advance(15 + patience.MARGIN)
    assert broken(shop.heartbeat) == []
    shop.clock.advance(1)
    assert broken(shop.heartbeat) == [("monitor", "")]


async def test_a_crew_that_was_relieved_owes_nothing(shop: Workshop) -> None:
    heartbeat = Heartbeat(shop.clock)
    roster = Roster(shop.clock, heartbeat)

    async def beside() -> None:
        within(10)
        await asyncio.Event().wait()

    roster.assign(Crew(site=shop.site, lane=shop.lane, beside={"poller scraper": beside}))
    task = asyncio.create_task(roster.run())
    async with asyncio.timeout(60):
        await shop.wire.idle.wait()
        assert {promise.who for promise in heartbeat._pulse._open.values()} == {
            "lane scraper",
            "poller scraper",
        }
        roster.dismiss(SERVICE)
        while roster._posts:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.002)
    shop.clock.advance(1e6)
    assert broken(heartbeat) == []
    task.cancel()


# --- a deployment


def allowed(service: Service) -> dict[str, float]:
    """An act of each step, and how long it may take."""
    assert isinstance(service.runtime, ProcessRuntime)
    return {
        "fetching/source.fetch/1": patience.fetching(service.source),
        "building/source.lay_out/1": patience.laying_out(service.source),
        "building/builder.build/1": patience.commands(service.deploy),
        "building/releases.seal/1": patience.FILES,
        "backing_up/saves.create_locked/1": patience.DATA,
        "backing_up/releases.verify/1": patience.FILES,
        "switching/builder.migrate/1": patience.commands(service.deploy),
        "switching/runtime.stop/1": patience.switching(service.runtime),
        "verifying/probe.ask/1": patience.proving(service.health),
        "rolling_back/releases.verify/1": patience.FILES,
        "rolling_back/runtime.stop/1": patience.switching(service.runtime),
        "ended/journal.releases/1": patience.DATA,
    }


@pytest.mark.parametrize("act", allowed(a_service()))
async def test_a_step_may_take_its_time_and_not_more(act: str) -> None:
    """A long step is not stuck, and one that is over its deadline is; then the next one counts anew."""
    deploy = {"migrate": ["say migrated"], "build": {"timeout": 9000}}  # as long as nothing else
    async with a_workshop(deploy=deploy) as shop:
        await shop.deploy()
        seen: list[list[str]] = []

        def look(seconds: float) -> None:
            shop.clock.advance(seconds)
            seen.append([who for who, _ in broken(shop.heartbeat)])

        shop.wire.trip(act, "before", lambda: look(allowed(shop.settings)[act] - 1))
        shop.wire.trip(act, "before", lambda: look(2))
        await shop.deploy("sick")
        assert seen[:2] == [[], ["lane"]], "the act was come by"
        assert not broken(shop.heartbeat)


@pytest.mark.parametrize("mood", ["good", "sick", "crash"])
async def test_no_promise_is_broken_on_the_way(mood: str) -> None:
    """To every end, a rollback by hand, and at rest; each act may take its time."""
    async with a_workshop(
        deploy={"migrate": ["say migrated"]}, rollback={"restore_data": "if-migrated"}
    ) as shop:
        late: list[tuple[str, str]] = []

        def look(phase: str) -> None:
            late.extend(broken(shop.heartbeat))
            if shop.wire.state not in ("verifying", "rolling_back"):  # that has a timeout of its own
                shop.clock.advance(20)

        shop.wire.watch = look
        await shop.deploy()
        await shop.deploy(mood)
        await shop.go_back()
        assert await shop.work()
        assert late == []
        assert shop.heartbeat.doing() == {}


async def test_a_lane_that_waits_for_the_journal_is_not_stuck(shop: Workshop) -> None:
    """A full disk may last for days."""
    await shop.deploy()
    late: list[tuple[str, str]] = []
    shop.wire.watch = lambda _: late.extend(broken(shop.heartbeat))
    full: Callable[[], BaseException] = lambda: Unavailable("store-unavailable", "the disk is full")  # noqa: E731
    shop.wire.raises("verifying/journal.advance/1", "before", full, times=400)
    shop.wire.raises("verifying/journal.deployment/1", "before", full, times=400)
    await shop.deploy()
    assert late == []


async def test_a_lane_that_waits_for_a_backup_is_not_stuck(shop: Workshop) -> None:
    """A person's backup of many gigabytes holds the lock."""
    beat = shop.heartbeat.of("lane")
    async with shop.lock, asyncio.timeout(60):
        task = asyncio.create_task(supervise("lane", shop.lane.run, shop.clock, beat))
        await asyncio.sleep(0.01)
        shop.clock.advance(20 * 3600)
        assert broken(shop.heartbeat) == []
        shop.clock.advance(5 * 3600)
        assert broken(shop.heartbeat) == [("lane", "")]
    task.cancel()
