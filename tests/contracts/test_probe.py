"""What every probe answers to `core.ports.Probe`. What is particular to a kind stands in `test_<kind>_probe`."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.probes import PROBES, probes_of
from agent.core import settings
from agent.core.model import Launch, Probed
from agent.core.ports import Probe
from agent.system.units import UnitError, Why
from tests.contracts.probes import a_launch, a_response, answering, around
from tests.fakes import START, FakeClock, FakeDisk, FakeProbe, FakeRuntime, FakeUnits


def of_kind(kind: str, directory: Path, *, port: int, well: bool) -> Probe:
    """A probe of each kind, before a service that is well or not."""
    around_it = around(directory)
    match kind:
        case "http":
            url = f"http://127.0.0.1:{port}/health"
            return PROBES["http"](settings.HttpProbe(url=url), around_it)
        case "tcp":
            return PROBES["tcp"](settings.TcpProbe(port=port), around_it)
        case "command":
            return PROBES["command"](settings.CommandProbe(command=f"exit {0 if well else 3}"), around_it)
        case "unit":
            units = FakeUnits("active" if well else "failed")
            return PROBES["unit"](settings.UnitProbe(unit="x.service"), replace(around_it, units=units))
        case _:
            assert kind == "freshness"
            with closing(sqlite3.connect(directory / "app.db")) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS pages (at)")
                database.execute("INSERT INTO pages VALUES (?)", [START.timestamp() - (1 if well else 3600)])
            asked = settings.FreshnessProbe(
                sqlite="app.db", query="SELECT max(at) FROM pages", max_age=settings.Seconds(60)
            )
            return PROBES["freshness"](asked, around_it)


async def a_fake(*, well: bool) -> Probe:
    runtime = FakeRuntime(FakeDisk({Path("/srv"): {"app": "good"}}))
    if well:
        await runtime.start(Launch(service="scraper", release="1-a", revision="a", directory="/srv"))
    return FakeProbe(runtime)


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return a_launch(tmp_path)


@pytest.fixture(params=[*sorted(PROBES), "fake"])
async def good(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Probe]:
    """Each kind of probe before a service that is well, and the fake that the tests of the services use."""
    async with answering(a_response()) as port:
        if request.param == "fake":
            yield await a_fake(well=True)
        else:
            yield of_kind(request.param, tmp_path, port=port, well=True)


@pytest.fixture(params=[*sorted(PROBES), "fake"])
async def bad(request: pytest.FixtureRequest, tmp_path: Path) -> Probe:
    """Each kind of probe, before nothing at all or something that is not well."""
    async with answering(a_response()) as port:
        pass
    if request.param == "fake":
        return await a_fake(well=False)
    return of_kind(request.param, tmp_path, port=port, well=False)


async def test_a_service_that_is_well_is_healthy_each_time(good: Probe, launch: Launch) -> None:
    for _ in range(3):
        probed = await good.ask(launch)
        assert probed.healthy, probed.detail
        assert probed.seconds > 0


async def test_a_failure_is_an_answer_with_a_sentence(bad: Probe, launch: Launch) -> None:
    """F63: the port never opens."""
    probed = await bad.ask(launch)
    assert not probed.healthy
    assert probed.detail.rpartition(": ")[2] in {
        "no answer", "exit status 3 instead of 0", "60 min ago, more than 1m",
    } or "no answer: " in probed.detail or probed.detail.endswith("failed (failed)")  # fmt: skip


async def test_asking_can_be_cancelled_and_then_done_again(good: Probe, launch: Launch) -> None:
    for turns in range(4):
        asking = asyncio.create_task(good.ask(launch))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
    probed = await good.ask(launch)
    assert probed.healthy, probed.detail


async def test_two_may_ask_at_the_same_time(good: Probe, launch: Launch) -> None:
    """The monitor may still be asking when a deployment begins to."""
    one, other = await asyncio.gather(good.ask(launch), good.ask(launch))
    assert one.healthy, one.detail
    assert other.healthy, other.detail


# --- when, and how often


class Counting:
    """A probe that is as it is told, and counts."""

    address = ("127.0.0.1", 9100)

    def __init__(self) -> None:
        self.well = True
        self.asked = 0

    async def ask(self, launch: Launch) -> Probed:
        assert launch.release
        self.asked += 1
        return Probed(healthy=self.well, detail=str(self.asked))


def test_a_probe_is_asked_in_deployments_at_rest_or_in_both(tmp_path: Path) -> None:
    options = [settings.TcpProbe(port=1), settings.TcpProbe(port=2, when="deploy"),
               settings.TcpProbe(port=3, when="live")]  # fmt: skip
    trial, at_rest = probes_of(options, around(tmp_path))
    assert [probe.address for probe in trial] == [("127.0.0.1", 1), ("127.0.0.1", 2)]
    assert [probe.address for probe in at_rest] == [("127.0.0.1", 1), ("127.0.0.1", 3)]
    assert trial[0] is at_rest[0], "it must know that it is being asked"


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    probe = Counting()
    monkeypatch.setitem(PROBES, "tcp", lambda options, surroundings: probe)
    return probe


def at_rest(tmp_path: Path, clock: FakeClock, every: float) -> Probe:
    options = settings.TcpProbe(port=1, every=settings.Seconds(every))
    (trial,), (rest,) = probes_of([options], around(tmp_path, clock=clock))
    assert trial is not rest, "in a deployment it is asked each time"
    return rest


async def test_at_rest_a_good_answer_counts_for_a_while(tmp_path: Path, counting: Counting) -> None:
    clock, launch = FakeClock(), a_launch(tmp_path)
    probe = at_rest(tmp_path, clock, 60)
    assert probe.address == counting.address
    for _ in range(9):  # a look every 15 s
        assert (await probe.ask(launch)).healthy
        clock.advance(15)
    assert counting.asked == 3


async def test_a_bad_answer_never_counts_twice(tmp_path: Path, counting: Counting) -> None:
    """Two in a row make a service unhealthy, so both must have been given."""
    clock, launch = FakeClock(), a_launch(tmp_path)
    probe = at_rest(tmp_path, clock, 60)
    counting.well = False
    assert not (await probe.ask(launch)).healthy
    assert not (await probe.ask(launch)).healthy
    counting.well = True
    assert (await probe.ask(launch)).healthy
    assert counting.asked == 3


async def test_an_answer_of_another_release_does_not_count(tmp_path: Path, counting: Counting) -> None:
    probe = at_rest(tmp_path, FakeClock(), 60)
    await probe.ask(a_launch(tmp_path, "1-aaaaaaa"))
    await probe.ask(a_launch(tmp_path, "2-bbbbbbb"))
    assert counting.asked == 2


@pytest.mark.parametrize(("release", "healthy"), [("1-aaaaaaa", True), ("2-bbbbbbb", False)])
async def test_while_systemd_does_not_answer_its_last_word_about_this_release_counts(
    tmp_path: Path, release: str, healthy: bool
) -> None:
    units = FakeUnits()
    surroundings = replace(around(tmp_path), units=units)
    probe = PROBES["unit"](settings.UnitProbe(unit="x.service"), surroundings)
    assert (await probe.ask(a_launch(tmp_path, "1-aaaaaaa"))).healthy
    units.errors = [UnitError(Why.UNREACHABLE, "no bus")]
    probed = await probe.ask(a_launch(tmp_path, release))
    assert (probed.healthy, "no bus" in probed.detail) == (healthy, True)
