"""A service that is unwell between deployments is started again, and in the end held."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from agent.core import upstreams
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import State
from agent.services.healing import Healer
from agent.services.monitor import Monitor
from tests.services.twins import PORTS, twin_workshop
from tests.services.workshop import SERVICE, Workshop


class Ward:
    """A monitor and a healer over the workshop's service, which was deployed and is well."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.monitor = Monitor(
            {SERVICE: shop.site}, shop.services, shop.events, lambda _: shop.lane.busy, 15, shop.clock
        )
        self.in_hand = False
        self.hire()

    def hire(self) -> None:
        """A new agent's healer."""
        self.healer = Healer(
            self.shop.site, self.shop.services, self.shop.rollbacks, self.shop.events, self.shop.lock, self.shop.clock,
            every=lambda: 15,
            health=lambda: self.monitor.health().get(SERVICE, ("unknown", "")), look=self._look,
            in_hand=self._in_hand, wake=self.shop.lane.wake,
        )  # fmt: skip

    async def _in_hand(self, _: str) -> bool:
        return self.in_hand

    async def _look(self) -> None:
        await self.monitor.look(SERVICE)

    async def rounds(self, times: int = 1, seconds: float = 15.0) -> None:
        """The monitor looks, the healer acts, time passes."""
        for _ in range(times):
            await self.monitor.look(SERVICE)
            await self.healer.heal()
            self.shop.clock.advance(seconds)

    async def names(self) -> list[str]:
        return [
            event.name
            for event in await self.shop.events.after(0, 10000)
            if event.name.startswith("service.")
        ]

    @property
    def starts(self) -> list[str]:
        return [act for act in self.shop.runtime.acts if act.startswith("start")]


@pytest.fixture
async def ward(shop: Workshop) -> Ward:
    assert (await shop.deploy()).state is State.SUCCEEDED
    return Ward(shop)


async def test_who_is_well_is_left_alone(ward: Ward) -> None:
    acts = list(ward.shop.runtime.acts)
    await ward.rounds(5)
    assert ward.shop.runtime.acts == acts
    assert await ward.names() == []


async def test_who_died_is_started_again_and_well(ward: Ward) -> None:
    """F67."""
    ward.shop.runtime.die()
    await ward.rounds()
    assert ward.monitor.health()[SERVICE] == ("healthy", "")
    assert ward.starts[-1] == ward.starts[0]
    assert await ward.names() == ["service.unhealthy", "service.restarted", "service.healthy"]


async def test_who_is_sick_is_stopped_and_started(ward: Ward) -> None:
    release = str(ward.shop.runtime.running and ward.shop.runtime.running.release)
    ward.shop.runtime.moods[release] = "sick"
    await ward.rounds(2)
    assert ward.shop.runtime.acts[-2:] == [f"stop {release}", f"start {release}"]


async def test_who_stays_sick_is_held_after_so_many_restarts_and_left_alone(ward: Ward) -> None:
    """Also by the next agent; the count begins anew when a person resumes it."""
    release = str(ward.shop.runtime.running and ward.shop.runtime.running.release)
    ward.shop.runtime.moods[release] = "sick"
    before = len(ward.starts)
    await ward.rounds(80)
    assert len(ward.starts) - before == ward.shop.settings.health.restarts == 3
    held = await ward.shop.services.hold_of(SERVICE)
    assert held is not None
    assert (held.actor, held.reason) == (
        "homeport", f"still unwell after 3 restarts: {release} is sick",
    )  # fmt: skip
    ward.hire()
    await ward.rounds(300)
    assert len(ward.starts) - before == 3
    assert (await ward.names()).count("service.held") == 1
    await ward.shop.resume()
    await ward.rounds(80)
    assert len(ward.starts) - before == 6


async def test_a_slow_starter_is_not_interrupted(ward: Ward) -> None:
    """`health.timeout` and `health.soak` are its time to become well."""
    release = str(ward.shop.runtime.running and ward.shop.runtime.running.release)
    ward.shop.runtime.moods[release] = "sick"
    await ward.rounds(2)
    before = len(ward.starts)
    rules = ward.shop.settings.health
    await ward.rounds(int((rules.timeout + rules.soak) / 2), seconds=1)
    assert len(ward.starts) == before


async def test_what_is_over_when_it_is_looked_at_again_is_no_reason(ward: Ward) -> None:
    release = str(ward.shop.runtime.running and ward.shop.runtime.running.release)
    ward.shop.runtime.moods[release] = "sick"
    await ward.monitor.look(SERVICE)
    await ward.monitor.look(SERVICE)
    ward.shop.runtime.moods[release] = "good"
    acts = list(ward.shop.runtime.acts)
    await ward.healer.heal()
    assert ward.shop.runtime.acts == acts


async def test_whom_somebody_else_starts_is_left_to_them(ward: Ward) -> None:
    """systemd's `Restart=`."""
    ward.shop.runtime.die()
    ward.shop.runtime.recovering = True
    await ward.rounds(5)
    assert "service.restarted" not in await ward.names()
    ward.shop.runtime.recovering = False
    await ward.rounds()
    assert "service.restarted" in await ward.names()


async def test_during_a_deployment_nothing_is_done(ward: Ward) -> None:
    ward.shop.runtime.die()
    await ward.monitor.look(SERVICE)
    async with ward.shop.lock:
        await ward.healer.heal()
    assert "service.restarted" not in await ward.names()


async def test_a_start_that_fails_counts(ward: Ward) -> None:
    release = str(ward.shop.runtime.running and ward.shop.runtime.running.release)
    ward.shop.runtime.moods[release] = "unstartable"
    ward.shop.runtime.die()
    await ward.rounds(80)
    assert (await ward.names()).count("service.restarted") == 3
    assert await ward.shop.services.hold_of(SERVICE) is not None


async def test_a_hold_by_a_person_is_no_obstacle_and_stays_theirs(ward: Ward) -> None:
    await ward.shop.services.hold(SERVICE, actor="me")
    release = str(ward.shop.runtime.running and ward.shop.runtime.running.release)
    ward.shop.runtime.moods[release] = "sick"
    before = len(ward.starts)
    await ward.rounds(120)
    assert len(ward.starts) - before == 3
    held = await ward.shop.services.hold_of(SERVICE)
    assert held is not None
    assert held.actor == "me"


async def test_a_restart_that_cannot_be_written_down_is_done_all_the_same(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.shop.runtime.die()
    await ward.monitor.look(SERVICE)

    async def refuse(*_: object, **__: object) -> None:
        raise Unavailable("store-unavailable", "the disk is full")

    monkeypatch.setattr(ward.shop.events, "record", refuse)
    await ward.healer.heal()
    assert len(ward.starts) == 2


async def test_while_a_deployment_or_a_restore_is_unfinished_nothing_is_done(ward: Ward) -> None:
    """What was cut off says what is to run; and data that could not be put back is a person's."""
    ward.shop.runtime.die()
    ward.in_hand = True
    await ward.rounds(5)
    assert len(ward.starts) == 1


async def test_a_deployment_that_takes_the_lock_meanwhile_is_not_waited_for(ward: Ward) -> None:
    """The healer's promise to the watchdog is two minutes, a build may take an hour."""
    ward.shop.runtime.die()
    await ward.monitor.look(SERVICE)
    healing = asyncio.create_task(ward.healer.heal())
    await asyncio.sleep(0)
    async with ward.shop.lock:
        await asyncio.wait_for(healing, 60)
    assert len(ward.starts) == 1


async def test_a_new_release_begins_its_own_count(ward: Ward) -> None:
    ward.shop.runtime.die()
    await ward.rounds(1, seconds=100)
    ward.shop.runtime.die()
    await ward.rounds(1, seconds=100)
    assert (await ward.shop.deploy()).state is State.SUCCEEDED
    for _ in range(3):
        ward.shop.runtime.die()
        await ward.rounds(1, seconds=700)
    assert await ward.shop.services.hold_of(SERVICE) is None


async def test_a_service_that_nobody_can_look_at_is_left_alone(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.shop.runtime.die()
    await ward.monitor.look(SERVICE)

    async def refuse() -> bool:
        raise StepFailed("systemd-unreachable", "no bus")

    monkeypatch.setattr(ward.shop.runtime, "recovers", refuse)
    await ward.healer.heal()
    assert len(ward.starts) == 1


async def test_what_serves_beside_an_nginx_that_cannot_follow_is_not_ended(tmp_path: Path) -> None:
    """The configuration has other ports than root's table: asked there nobody answers, and users are served."""
    async with twin_workshop(tmp_path) as shop:
        deployment = await shop.deploy()
        table, acts = tmp_path / "upstreams.json", list(shop.twins.acts)
        ward = Ward(shop)
        shop.twins.moods[str(deployment.release)] = "sick"
        table.write_text(upstreams.table_of({SERVICE: (9201, 9202)}))
        await ward.rounds(5)
        assert shop.twins.acts == acts
        assert await shop.services.hold_of(SERVICE) is None
        table.write_text(upstreams.table_of({SERVICE: PORTS}))
        await ward.rounds(1)
        assert shop.twins.acts == [*acts, "stop blue", f"start blue {deployment.release}"]


async def test_a_service_that_runs_as_what_it_was_before_is_neither_started_nor_held(ward: Ward) -> None:
    """A person has to end that unit; then it is started, and nobody has to resume anything."""
    gone = asyncio.Event()

    async def alone() -> None:
        if not gone.is_set():
            raise StepFailed("unit-left-running", "old.service, which the service was before, is active")

    ward.shop.site = dataclasses.replace(ward.shop.site, alone=alone)
    ward.hire()
    ward.shop.runtime.die()
    await ward.rounds(80)
    assert len(ward.starts) == 1
    assert await ward.shop.services.hold_of(SERVICE) is None
    gone.set()
    await ward.rounds(1)
    assert len(ward.starts) == 2
