"""One look at a service: its probes together, then its process."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.core.model import Launch, Probed
from agent.services.health import observe
from tests.fakes import FakeClock, FakeDisk, FakeRuntime

LAUNCH = Launch(service="scraper", release="1-aaaaaaa", revision="a" * 40, directory="/srv")


class Slow:
    """A probe whose answer comes when it is let go."""

    def __init__(self, name: str, address: tuple[str, int] | None = None) -> None:
        self.name = name
        self.address = address
        self.go = asyncio.Event()
        self.asked: list[Launch] = []
        self.tidied = False

    async def ask(self, launch: Launch) -> Probed:
        self.asked.append(launch)
        try:
            await self.go.wait()
        finally:
            await asyncio.sleep(0)
            self.tidied = True
        return Probed(healthy=True, detail=self.name)


@pytest.fixture
async def runtime() -> FakeRuntime:
    made = FakeRuntime(FakeDisk({Path("/srv"): {"app": "good"}}))
    await made.start(LAUNCH)
    return made


async def begin(runtime: FakeRuntime, probes: Sequence[Slow]) -> "asyncio.Task[object]":
    """A look under way."""
    look: asyncio.Task[object] = asyncio.create_task(observe(runtime, probes, LAUNCH, FakeClock()))
    for _ in range(5):
        await asyncio.sleep(0)
    return look


async def test_all_probes_are_asked_at_once_and_answer_in_their_order(runtime: FakeRuntime) -> None:
    """Five of them with 5 s each make a look of 5 s, not of 25 s."""
    probes = [Slow(name) for name in "abcde"]
    look = await begin(runtime, probes)
    assert [probe.asked for probe in probes] == [[LAUNCH]] * 5
    for probe in reversed(probes):
        probe.go.set()
        await asyncio.sleep(0)
    seen = await observe(runtime, probes, LAUNCH, FakeClock())
    assert [probed.detail for probed in seen.probes] == list("abcde")
    assert await look == seen
    assert seen.good


async def test_a_process_that_ends_while_it_is_asked_counts_as_ended(runtime: FakeRuntime) -> None:
    probe = Slow("a")
    look = await begin(runtime, [probe])
    runtime.die()
    probe.go.set()
    await look
    probe.go.set()
    seen = await observe(runtime, [probe], LAUNCH, FakeClock())
    assert seen.instance is None
    assert not seen.good


async def test_only_who_answers_over_the_services_own_socket_is_believed(runtime: FakeRuntime) -> None:
    """F65: each probe's own address is asked about."""
    own, other, none = Slow("own", ("127.0.0.1", 9100)), Slow("other", ("127.0.0.1", 5432)), Slow("none")
    for probe in (own, other, none):
        probe.go.set()
    seen = await observe(runtime, [own, other, none], LAUNCH, FakeClock())
    assert [probed.healthy for probed in seen.probes] == [True, False, True]
    assert seen.complaint == "another process answers (other)"


async def test_a_look_that_is_cancelled_waits_until_every_probe_has_tidied_up(runtime: FakeRuntime) -> None:
    """A command must be ended before the agent is."""
    probes = [Slow("a"), Slow("b")]
    look = await begin(runtime, probes)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    assert [probe.tidied for probe in probes] == [True, True]


async def test_a_defect_of_a_probe_is_not_hidden_and_leaves_no_other_running(runtime: FakeRuntime) -> None:
    class Broken(Slow):
        async def ask(self, launch: Launch) -> Probed:
            raise KeyError(self.name)

    slow = Slow("a")
    look = await begin(runtime, [Broken("b"), slow])
    slow.go.set()
    with pytest.raises(KeyError):
        await look
    assert slow.tidied
