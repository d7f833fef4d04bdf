"""A file that changes under a running agent: taken up whole, or not at all and told."""

import asyncio
from collections.abc import Callable

import pytest

from agent.core.errors import ConfigError, Problem, Unavailable
from agent.core.reload import Reloaded
from agent.services.reloading import SETTLE_TRIES, Reloading
from agent.store.database import Database
from agent.store.events import EventLog
from tests.fakes import FakeClock

FILE = "/etc/homeport/config.yaml"


class Desk:
    """A file whose content is a number, and what was put in force. `writing` writes it at each look."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.content: int | None = 1
        self.written = 0
        self.writing: Callable[[], None] = lambda: None
        self.applied: list[int] = []
        self.refuses = self.early = False
        self.at_work = 0
        self.clock = clock
        self.events = EventLog(database)
        self.reloading: Reloading[int] = Reloading(
            FILE, stamp=self.stamp, load=self.load, apply=self.apply, events=self.events, clock=clock
        )

    async def stamp(self) -> int:
        self.writing()
        return self.written

    async def load(self) -> int:
        if self.content is None:
            raise ConfigError([Problem("services", "is wrong", 3, "mend it")], file=FILE)
        return self.content

    async def apply(self, loaded: int) -> Reloaded:
        self.at_work += 1
        assert self.at_work == 1, "two reloads at once"
        await asyncio.sleep(0)
        self.at_work -= 1
        if self.early:
            raise ConfigError([Problem("services.app.runtime", "app.service still runs")], file=FILE)
        if self.refuses:
            raise Unavailable("store-unavailable", "not now")
        self.applied.append(loaded)
        return Reloaded(
            file=FILE, loaded_at=self.clock.now(), added=("new",), changed=(), removed=(), restart_needed=(),
            after_deployment=(), older_runtime=(),
        )  # fmt: skip

    async def told(self) -> list[tuple[str, object]]:
        return [(event.name, event.data.get("actor")) for event in await self.events.after(0, 100)]


@pytest.fixture
def desk(database: Database, clock: FakeClock) -> Desk:
    """A file that is valid."""
    return Desk(database, clock)


async def test_a_valid_file_is_in_force_and_told(desk: Desk) -> None:
    desk.clock.advance(60)
    done = await desk.reloading.reload("me")
    status = desk.reloading.status()
    assert (desk.applied, status.stale, status.loaded_at) == ([1], False, done.loaded_at)
    assert await desk.told() == [("config.reloaded", "me")]


async def test_an_invalid_file_changes_nothing_and_is_told_until_a_good_reload(desk: Desk) -> None:
    """R-SD-8, F79."""
    begun = desk.reloading.status().loaded_at
    desk.content = None
    for _ in range(2):
        with pytest.raises(ConfigError):
            await desk.reloading.reload("me")
        status = desk.reloading.status()
        assert (status.stale, status.loaded_at, desk.applied) == (True, begun, [])
        assert status.problems == ({"path": "services", "message": "is wrong", "line": 3, "hint": "mend it"},)
    desk.content = 2
    await desk.reloading.reload("me")
    status = desk.reloading.status()
    assert (status.stale, status.problems, desk.applied) == (False, (), [2])
    assert [name for name, _ in await desk.told()] == ["config.invalid", "config.invalid", "config.reloaded"]


async def test_what_cannot_be_put_in_force_now_is_no_fault_of_the_file(desk: Desk) -> None:
    desk.refuses = True
    with pytest.raises(Unavailable):
        await desk.reloading.reload("me")
    assert not desk.reloading.status().stale
    assert await desk.told() == []


async def test_what_the_file_says_too_early_is_told_until_it_can_count(desk: Desk) -> None:
    desk.early = True
    with pytest.raises(ConfigError):
        await desk.reloading.reload("me")
    assert [problem["path"] for problem in desk.reloading.status().problems] == ["services.app.runtime"]
    desk.early = False
    await desk.reloading.reload("me")
    assert not desk.reloading.status().stale
    assert [name for name, _ in await desk.told()] == ["config.invalid", "config.reloaded"]


async def test_an_editor_that_is_half_way_through_the_file_is_waited_for(desk: Desk) -> None:
    """F79: half of a file may look like a whole one; it is never put in force."""
    steps = [None, 7, None, 8]

    def write() -> None:
        if steps:
            desk.content = steps.pop(0)
            desk.written += 1

    desk.writing = write
    await desk.reloading.reload("me")
    assert desk.applied == [8]
    assert not desk.reloading.status().stale


@pytest.mark.parametrize("content", [None, 7], ids=["invalid", "looks whole"])
async def test_a_file_that_is_written_while_it_is_read_is_read_again(desk: Desk, content: int | None) -> None:
    load, looks = desk.load, 0

    async def meanwhile() -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            desk.content = content
            try:
                return await load()
            finally:
                desk.content, desk.written = 9, 1
        return await load()

    desk.reloading._load = meanwhile
    await desk.reloading.reload("me")
    assert (desk.applied, looks) == ([9], 2)


async def test_a_file_that_never_rests_is_refused(desk: Desk) -> None:
    def write() -> None:
        desk.written += 1

    desk.writing = write
    before = desk.clock.monotonic()
    with pytest.raises(ConfigError):
        await desk.reloading.reload("me")
    assert desk.applied == []
    assert desk.reloading.status().stale
    assert desk.clock.monotonic() - before < SETTLE_TRIES


async def test_two_reloads_at_once_come_one_after_the_other(desk: Desk) -> None:
    await asyncio.gather(*(desk.reloading.reload(str(number)) for number in range(5)))
    assert desk.applied == [1] * 5


async def test_a_signal_reloads_and_an_invalid_file_does_not_end_the_loop(desk: Desk) -> None:
    task = asyncio.create_task(desk.reloading.run())
    try:
        for content in (None, 4):
            desk.content = content
            before = len(await desk.told())
            for _ in range(3):
                desk.reloading.ask()
            async with asyncio.timeout(60):
                while len(await desk.told()) == before:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.001)
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert desk.applied == [4]
    assert await desk.told() == [("config.invalid", "SIGHUP"), ("config.reloaded", "SIGHUP")]


async def test_an_event_that_cannot_be_written_does_not_undo_a_reload(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise Unavailable("store-unavailable", "the disk is full")

    monkeypatch.setattr(desk.events, "record", full)
    await desk.reloading.reload("me")
    assert desk.applied == [1]
    desk.content = None
    with pytest.raises(ConfigError):
        await desk.reloading.reload("me")
    assert desk.reloading.status().stale
