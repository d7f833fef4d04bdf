"""What keeps the long-running services running."""

import asyncio
import logging

import pytest

from agent.core.errors import Unavailable
from agent.services.supervise import FIRST_PAUSE, GOOD_RUN, LONGEST_PAUSE, supervise
from tests.fakes import FakeClock


class Failing:
    """Fails so often, each time after so many seconds, and then returns."""

    def __init__(self, clock: FakeClock, times: int, seconds: float = 0) -> None:
        self._clock = clock
        self._times = times
        self._seconds = seconds
        self.starts: list[float] = []

    async def run(self) -> None:
        self.starts.append(self._clock.monotonic())
        self._clock.advance(self._seconds)
        if len(self.starts) <= self._times:
            raise RuntimeError("a defect")

    @property
    def pauses(self) -> list[float]:
        pairs = zip(self.starts, self.starts[1:], strict=False)
        return [later - earlier - self._seconds for earlier, later in pairs]


async def test_what_fails_is_started_again_after_longer_and_longer_pauses(clock: FakeClock) -> None:
    service = Failing(clock, 9)
    await supervise("it", service.run, clock)
    assert service.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (1, 60)


async def test_after_a_good_run_the_pause_begins_small_again(clock: FakeClock) -> None:
    service = Failing(clock, 5, seconds=GOOD_RUN + 1)
    await supervise("it", service.run, clock)
    assert service.pauses == pytest.approx([1] * 5)


async def test_what_returns_is_done(clock: FakeClock) -> None:
    service = Failing(clock, 0)
    await supervise("it", service.run, clock)
    assert len(service.starts) == 1


async def test_a_failure_is_told_once_with_its_traceback(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        await supervise("the lane", Failing(clock, 1).run, clock)
    (record,) = caplog.records
    assert record.getMessage() == "the lane failed; it is started again in 1 s"
    assert record.exc_info is not None


async def test_what_is_only_unavailable_is_told_in_a_sentence(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is no defect: no traceback every minute."""
    answers = [Unavailable("store-unavailable", "database or disk is full"), None]

    async def run() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    with caplog.at_level(logging.ERROR):
        await supervise("the lane", run, clock)
    (record,) = caplog.records
    assert "database or disk is full" in record.getMessage()
    assert record.exc_info is None


async def test_cancelling_ends_it_while_it_works_and_while_it_pauses(clock: FakeClock) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    class SlowClock(FakeClock):
        async def sleep(self, seconds: float) -> None:
            begun.set()
            await asyncio.Event().wait()

    for run, its_clock in ((work, clock), (Failing(clock, 99).run, SlowClock())):
        begun.clear()
        task = asyncio.create_task(supervise("it", run, its_clock))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
