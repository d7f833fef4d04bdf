"""The whole agent in one process, reloaded: every part changes at once, or none does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import app
from agent.adapters.runtimes.started import Started
from agent.app import Agent
from agent.cli.configuration import load
from agent.core.errors import ConfigError, Unavailable
from agent.core.model import Release
from agent.system.units import UnitError, UnitState, Why
from tests.fakes import FakeUnits

TOKEN = "a-token-of-the-tests-0123456789"
LIVE = (
    "INSERT INTO services(name, live_release, live_revision, live_since) VALUES('app', '1-aaaaaaa', 'a', ?)"
)


class House:
    """An agent over a file. Its services are never deployed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "config.yaml"
        self.environ = {"TOKEN": TOKEN, "HOOK": "a-secret-of-the-webhook-0123456789"}
        self.write(app={}, other={})
        self.agent = Agent(*load(self.file, self.environ), lambda: load(self.file, self.environ), self.file)

    def write(self, **services: dict[str, Any]) -> None:
        document = {
            "listen": {"port": 0, "socket": str(self.directory / "agent.sock")},
            "state_dir": str(self.directory / "state"),
            "access": {"tokens": [{"name": "me", "secret": {"env": "TOKEN"}, "scopes": ["admin"]}]},
            "github": {"webhook_secrets": [{"env": "HOOK"}]},
            "services": {name: self.service(name) | more for name, more in services.items()},
        }
        self.file.write_text(yaml.safe_dump(document))

    def service(self, name: str) -> dict[str, Any]:
        return {
            "directory": str(self.directory / name),
            "source": {"repository": str(self.directory / "git")},
            "runtime": {"kind": "process", "command": ["true"]},
        }

    def seen(self) -> tuple[object, ...]:
        """All that a reload exchanges."""
        agent = self.agent
        crews = {name: post.crew for name, post in agent.roster._posts.items()}
        return (
            agent.server.context,
            dict(agent.roster.sites),
            crews,
            agent.monitor._names,
            agent.monitor._every,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Agent]:
        (self.directory / "state").mkdir()
        ready, stop = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(self.agent.run(ready.set, stop))
        await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield self.agent
        finally:
            stop.set()
            await task


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_reload_that_cannot_be_done_changes_nothing_at_all(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-SD-8: no half of it, whatever fails on the way."""

    async def full(*_: object) -> None:
        raise Unavailable("store-unavailable", "the disk is full")

    async with house.open() as agent:
        before = house.seen()
        house.write(app={"deploy": {"keep_releases": 9}}, new={})
        for part, method in ((agent.monitor, "prime"), (agent.services, "live")):
            with monkeypatch.context() as broken:
                broken.setattr(part, method, full)
                with pytest.raises(Unavailable):
                    await agent.reloading.reload("me")
            assert house.seen() == before
        house.environ["HOOK"] = "short"
        with pytest.raises(ConfigError):
            await agent.reloading.reload("me")
        assert house.seen() == before
        house.environ["HOOK"] = "another-secret-of-the-webhook-42"
        done = await agent.reloading.reload("me")
        assert (done.added, done.changed, done.removed) == (("new",), ("app",), ("other",))
        context = agent.server.context
        assert context.webhook_secrets == (b"another-secret-of-the-webhook-42",)
        assert (
            list(context.settings.services)
            == list(context.config_hash)
            == list(context.states())
            == ["app", "new"]
        )
        assert context.states()["new"] == ("none", "")


async def test_a_service_that_still_runs_as_another_unit_is_not_started_twice_by_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = FakeUnits("active")
    monkeypatch.setattr(app, "Systemd", lambda: units)
    house, named = House(tmp_path), {"kind": "systemd", "unit": "old.service"}
    async with house.open() as agent:
        house.write(app={"runtime": named}, other={})
        await agent.reloading.reload("me")
        await agent.database.write(lambda connection: connection.execute(LIVE, (1,)).rowcount)
        Started(tmp_path / "state" / "run" / "app" / "unit", "old.service", tmp_path / "app").note(
            "1-aaaaaaa", "i"
        )
        for wanted in (named | {"unit": "new.service"}, {"kind": "process", "command": ["sleep", "1"]}):
            before = house.seen()
            house.write(app={"runtime": wanted}, other={})
            with pytest.raises(ConfigError) as error:
                await agent.reloading.reload("me")
            (problem,) = error.value.problems
            assert (problem.path, "old.service" in problem.message) == ("services.app.runtime", True)
            assert house.seen() == before
            assert agent.reloading.status().stale
        units.state = UnitState(load="loaded", active="inactive", sub="dead")
        (tmp_path / "app" / "releases" / "1-aaaaaaa").mkdir(parents=True)
        done = await agent.reloading.reload("me")
        assert (done.changed, agent.reloading.status().stale) == (("app",), False)


@pytest.mark.parametrize("why", [Why.UNKNOWN, Why.REFUSED])
async def test_a_unit_that_cannot_take_over_leaves_what_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: Why
) -> None:
    """The unit is not written, or `homeport install` was not run: the agent must not end its own process for it."""
    units = FakeUnits("inactive", load="not-found" if why is Why.UNKNOWN else "loaded")
    monkeypatch.setattr(units, "call", raising(UnitError(why, "no")))
    monkeypatch.setattr(app, "Systemd", lambda: units)
    house, process = House(tmp_path), {"kind": "process", "command": ["sleep", "600"]}
    release = tmp_path / "app" / "releases" / "1-aaaaaaa"
    release.mkdir(parents=True)
    house.write(app={"runtime": process}, other={})
    async with house.open() as agent:
        await agent.reloading.reload("me")
        await agent.database.write(lambda connection: connection.execute(LIVE, (1,)).rowcount)
        runtime = agent.sites["app"].runtime
        running = await runtime.start(
            agent.sites["app"].launch(Release(name="1-aaaaaaa", service="app", revision="a"))
        )
        try:
            house.write(app={"runtime": {"kind": "systemd", "unit": "app.service"}}, other={})
            with pytest.raises(ConfigError) as error:
                await agent.reloading.reload("me")
            assert [problem.path for problem in error.value.problems] == ["services.app.runtime"]
            assert await runtime.look() == running
        finally:
            await runtime.stop()


def raising(error: Exception) -> Callable[..., Awaitable[None]]:
    async def act(*_: object, **__: object) -> None:
        raise error

    return act


def test_services_whose_builds_are_isolated_are_built_one_after_the_other(tmp_path: Path) -> None:
    """They are one user, who could get at another build that goes on."""
    house, build = House(tmp_path), {"commands": ["make"], "isolated": True}
    services = {name: {"deploy": {"build": build}} for name in ("one", "two")}
    house.write(**services, three={"deploy": {"build": {"isolated": True}}}, four={})
    agent = Agent(*load(house.file, house.environ), lambda: load(house.file, house.environ), house.file)
    one, two, three, four = (agent.roster.sites[name].turn for name in ("one", "two", "three", "four"))
    assert one is two
    assert len({id(turn) for turn in (one, three, four)}) == 3, "who builds nothing waits for nobody"


async def test_while_the_agent_ends_nothing_is_taken_up(house: House) -> None:
    async with house.open() as agent:
        agent.server.context.stopping = True
        before = house.seen()
        house.write(app={}, new={})
        with pytest.raises(Unavailable):
            await agent.reloading.reload("me")
        assert house.seen() == before


async def test_a_request_sees_one_configuration_from_its_first_line_to_its_last(house: House) -> None:
    """It began before a reload that removes its service, and ends after it: no 500, no half."""
    async with house.open() as agent:
        asked = []
        for path, document in (("/deploy", {"service": "other"}), ("/api/v1/backups", {"service": "other"})):
            body = json.dumps(document).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", agent.server.port)
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body[:5])
            await writer.drain()
            asked.append((reader, writer, body[5:]))
        async with asyncio.timeout(60):
            while len(agent.server.context.intake._draughts) < 2:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.005)
        house.write(app={})
        assert (await agent.reloading.reload("me")).removed == ("other",)
        for reader, writer, rest in asked:
            writer.write(rest)
            status = int((await reader.readline()).split()[1])
            assert status in (201, 202), "as if it had come before the reload"
            writer.close()
            await writer.wait_closed()


async def test_many_reloads_leave_no_task_behind(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.services.reloading.SETTLE_SECONDS", 0.001)
    async with house.open() as agent:

        async def reload(count: int) -> None:
            house.write(app={"deploy": {"keep_releases": count}}, **({"other": {}} if count % 2 else {}))
            await agent.reloading.reload("me")

        async def tasks() -> int:
            await asyncio.sleep(0.05)
            return len(asyncio.all_tasks())

        for count in range(1, 4):
            await reload(count)
        before = await tasks()
        for count in range(4, 54):
            await reload(count)
        async with asyncio.timeout(60):  # a poll that is going on is a task, too
            while await tasks() > before:
                pass
        assert set(agent.roster._posts) == {"app", "other"}


async def test_a_service_whose_secret_was_rotated_behind_its_name_gets_it(house: House) -> None:
    """Its settings are the same, and the value is not."""
    house.environ["BEARER"] = "the-first-bearer-of-a-probe"
    probe = {"kind": "http", "url": "http://127.0.0.1:1/", "bearer": {"env": "BEARER"}}
    async with house.open() as agent:
        house.write(app={"health": {"probes": [probe]}}, other={})
        await agent.reloading.reload("me")
        assert (await agent.reloading.reload("me")).changed == ()
        house.environ["BEARER"] = "the-second-bearer-of-a-probe"
        assert (await agent.reloading.reload("me")).changed == ("app",)
        crew: Any = agent.roster._posts["app"]._next or agent.roster._posts["app"].crew
        assert crew.site.probes[0]._bearer == "the-second-bearer-of-a-probe"
        assert agent._secrets.redact("the-first-bearer-of-a-probe the-second-bearer-of-a-probe") == "*** ***"
        assert (await agent.reloading.reload("me")).changed == ()


async def test_every_loop_promises_to_come_by_again(house: House) -> None:
    """R-SD-6: but for those that wait to be asked; at the end nobody owes anything."""
    async with house.open() as agent:
        each = {f"{kind} {name}" for kind in ("lane", "poller", "healer") for name in ("app", "other")}
        async with asyncio.timeout(60):
            while set(agent.heartbeat._pulse._open) != each | {"monitor"}:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        house.write(app={})
        await agent.reloading.reload("me")
        async with asyncio.timeout(60):
            while set(agent.heartbeat._pulse._open) != {"monitor", "lane app", "poller app", "healer app"}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert agent.heartbeat._pulse._open == {}
