"""Threads for blocking work: short work never waits behind long work, and cancelled long work ends."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from agent.system.threads import LONG, aside, in_thread, to_its_end, until_stopped


def until(stop: threading.Event) -> str:
    stop.wait(30)
    return "stopped"


async def test_the_result_and_the_exception_come_back() -> None:
    def fail() -> None:
        raise ValueError("no")

    stop = threading.Event()
    for call in (in_thread, to_its_end, lambda function: until_stopped(stop, function)):
        run: Callable[..., object] = call
        assert await run(lambda: 7) == 7  # type: ignore[misc]
        with pytest.raises(ValueError, match="no"):
            await run(fail)  # type: ignore[misc]


async def test_short_work_does_not_wait_for_long_work() -> None:
    stop = threading.Event()
    work = [asyncio.create_task(until_stopped(stop, until, stop)) for _ in range(LONG + 3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(25):
        assert await in_thread(lambda: 7) == 7
        stop.set()
        assert set(await asyncio.gather(*work)) == {"stopped"}


async def test_cancelled_long_work_has_ended_when_the_caller_hears_of_it() -> None:
    stop, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        stop.wait(30)
        time.sleep(0.1)
        ended.set()
        raise ValueError("what it says about its end is not of interest")

    task = asyncio.create_task(until_stopped(stop, work))
    while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.01)
    for _ in range(3):  # whoever is impatient does not get it back sooner
        task.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_cancelled_long_work_that_had_not_begun_never_does() -> None:
    stop, other, begun = threading.Event(), threading.Event(), threading.Event()
    work = [asyncio.create_task(until_stopped(stop, until, stop)) for _ in range(LONG)]
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(until_stopped(other, begun.set))
    await asyncio.sleep(0.05)
    waiting.cancel()
    async with asyncio.timeout(25):
        with pytest.raises(asyncio.CancelledError):
            await waiting
        stop.set()
        await asyncio.gather(*work)
        await until_stopped(threading.Event(), lambda: None)
    assert not begun.is_set()


async def test_work_aside_brings_its_result_or_its_exception_back() -> None:
    def fail() -> None:
        raise ValueError("no")

    assert await aside(lambda: 7) == 7
    with pytest.raises(ValueError, match="no"):
        await aside(fail)


async def test_work_aside_that_hangs_takes_nobodys_place_and_holds_up_no_end() -> None:
    stop = threading.Event()
    hanging = [asyncio.create_task(aside(until, stop)) for _ in range(LONG + 3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(25):
        assert await in_thread(lambda: 7) == 7
        assert await until_stopped(threading.Event(), lambda: 8) == 8
    left = [thread for thread in threading.enumerate() if thread.name == "homeport-aside"]
    assert len(left) >= len(hanging)
    assert all(thread.daemon for thread in left), "the interpreter does not wait for them"
    for task in hanging:
        task.cancel()
    await asyncio.wait(hanging)
    stop.set()
    for thread in left:
        thread.join(10)
