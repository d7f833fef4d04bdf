"""The work floor in one process: the real lane, deployer, supervisor and store over fakes of the outside.

Every act (a call of a port, of the journal, of the backups) passes a `Wire`, which names it `state/object.method/n` and
can be told to do something there, before or after the act: raise, kill, cancel. What a machine keeps (disk, processes,
state.db) outlives the agents that `Workshop.agent` hires one after the other.
"""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar, cast

from agent.core.freeze import freeze_of
from agent.core.model import Deployment, State, Trigger
from agent.core.pipeline import ENDS
from agent.services.deployer import Deployer
from agent.services.heartbeat import Heartbeat
from agent.services.lanes import Lane
from agent.services.progress import Progress
from agent.services.site import Site
from agent.services.step import Saves
from agent.services.supervise import supervise
from agent.store.admission import Wish, place
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.inbox import Admission, Inbox, Wanted
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from tests.build import a_delivery, a_service
from tests.fakes import (
    FakeBuilder,
    FakeClock,
    FakeDisk,
    FakeProbe,
    FakeReleases,
    FakeRemote,
    FakeRuntime,
    FakeSaves,
    FakeSource,
)

T = TypeVar("T")
Deed = Callable[[], None]

SERVICE = "scraper"
HASH = "0123456789abcdef"
AFTER_SWITCH = ("switching", "verifying", "rolling_back")
ENDLESS = 20_000
QUICK = {"every": 2, "timeout": 20, "successes": 1, "soak": 2}


class Killed(BaseException):
    """The agent is gone, here and now. No part of it may catch this."""


@dataclass
class Trip:
    """What is to be done at an act: from its `first` occurrence on, so often as is `left`."""

    act: str
    phase: str
    deed: Deed
    first: int
    left: int


@dataclass
class Wire:
    """Names every act in the order in which it begins, and does what it was told to do there.

    Occurrences are counted anew with each deployment that is claimed, and go on when it is taken up again.
    """

    state: str = "idle"
    passed: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """The occurrences at which a deed was done."""
    counts: Counter[str] = field(default_factory=Counter)
    trips: list[Trip] = field(default_factory=list)
    watch: Callable[[str], None] = lambda phase: None
    """Asked at every act, with the phase."""
    calls: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What somebody outside does just before an act."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def trip(self, place: str, phase: str, deed: Deed, times: int = 1) -> None:
        """`place` is `state/object.method/n`, `phase` before or after."""
        act, _, first = place.rpartition("/")
        self.trips.append(Trip(act, phase, deed, int(first), times))

    def raises(self, place: str, phase: str, error: Callable[[], BaseException], times: int = 1) -> None:
        """An error of its own each time."""

        def deed() -> None:
            raise error()

        self.trip(place, phase, deed, times)

    def when(self, place: str, call: Callable[[], Awaitable[None]]) -> None:
        """Something happens outside just before this act."""
        self.calls[place] = call

    def forget(self) -> None:
        """As new, for the next run."""
        self.state = "idle"
        self.passed, self.done, self.trips = [], [], []
        self.counts.clear()

    async def act(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        act = f"{self.state}/{name}"
        self.counts[act] += 1
        number = self.counts[act]
        self.passed.append(f"{act}/{number}")
        if call_first := self.calls.pop(f"{act}/{number}", None):
            await call_first()
        if len(self.passed) > ENDLESS:
            raise Killed("it goes on for ever")
        self._do(act, number, "before")
        result = await call()
        if name.startswith("journal."):
            self._follow(name, result)
        self._do(act, number, "after")
        return result

    def _follow(self, name: str, result: object) -> None:
        if isinstance(result, Deployment):
            self.state = result.state if result.state not in ENDS else "ended"
        if name == "journal.claim":
            self.counts.clear()
            if result is None:
                self.idle.set()

    def _do(self, act: str, number: int, phase: str) -> None:
        self.watch(phase)
        for trip in self.trips:
            if (trip.act, trip.phase) == (act, phase) and number >= trip.first and trip.left:
                trip.left -= 1
                self.done.append(f"{act}/{number}@{phase}")
                trip.deed()


class Wired:
    """Stands before a part and lets every coroutine of it pass the wire."""

    def __init__(self, name: str, inner: object, wire: Wire) -> None:
        self._name = name
        self._inner = inner
        self._wire = wire

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._inner, method)
        if not asyncio.iscoroutinefunction(found):
            return found
        return lambda *args, **kwargs: self._wire.act(
            f"{self._name}.{method}", lambda: found(*args, **kwargs)
        )


async def nothing() -> None:
    """There is nothing to settle."""


class Workshop:
    """One service on one machine. `wire` is where a test takes hold of it."""

    def __init__(self, database: Database, clock: FakeClock, **settings: Any) -> None:
        self.database = database
        self.clock = clock
        self.wire = Wire()
        self.settings = a_service(**({"health": QUICK} | settings))
        self.inbox = Inbox(database, clock)
        self.journal = Journal(database, clock)
        self.services = ServiceRows(database, clock)
        self.rollbacks = Rollbacks(database, clock)
        self.events = EventLog(database)
        self.remote = FakeRemote()
        self.disk = FakeDisk()
        self.source = FakeSource(self.remote, self.disk)
        self.releases = FakeReleases(self.disk)
        self.runtime = FakeRuntime(self.disk)
        self.lock = asyncio.Lock()
        self.saves = FakeSaves(self.lock, clock)
        self.data: Callable[[], Saves] = lambda: self.saves
        """What a new agent's deployer gets; a test may put the real thing here."""
        self.settle: Callable[[], Awaitable[None]] = nothing
        self.progress = Progress()
        self.heartbeat = Heartbeat(clock)
        self.lane: Lane
        self.site: Site
        self.hire()

    def hire(self) -> None:
        """A new agent: it knows nothing but what the machine keeps."""
        self.lock = asyncio.Lock()
        made, self.saves = self.saves.made, FakeSaves(self.lock, self.clock)
        self.saves.made = made
        self.releases.forget()
        self.site = Site(
            name=SERVICE,
            settings=self.settings,
            config_hash=HASH,
            source=self._wired("source", self.source),
            releases=self._wired("releases", self.releases),
            builder=self._wired("builder", FakeBuilder(self.disk)),
            freeze=freeze_of(self.settings.deploy, UTC),
            **self._tools(),
        )
        journal, services = self._wired("journal", self.journal), self._wired("services", self.services)
        rollbacks = self._wired("rollbacks", self.rollbacks)
        saves = self._wired("saves", self.data())
        self.progress = Progress()
        deployer = Deployer(self.site, journal, services, rollbacks, saves, self.clock, self.progress)
        self.lane = Lane(
            self.site, deployer, journal, services, rollbacks, self.lock, self.clock, settle=self.settle
        )

    def _tools(self) -> dict[str, Any]:
        """How it runs, and how it is asked."""
        probe = self._wired("probe", FakeProbe(self.runtime))
        runtime = self._wired("runtime", self.runtime)
        return {"runtime": runtime, "probes": (probe,), "probes_at_rest": (probe,)}

    def _wired(self, name: str, inner: T) -> T:
        return cast("T", Wired(name, inner, self.wire))

    # --- what comes from outside

    async def push(self, mood: str = "good", build: str = "say built", **files: str) -> str:
        """Somebody pushes a commit, with further files perhaps, and GitHub tells; returns the commit."""
        revision = self.commit({"app": mood, "build": build} | files)
        await self.deliver(revision)
        return revision

    def commit(self, changed: dict[str, str] | None = None, message: str = "change\n") -> str:
        """Somebody pushes a commit, and nobody tells. A good one by default."""
        number = str(len(self.remote.commits))
        if changed is None or "app" in changed:
            changed = {"app": "good", "build": "say built", "n": number} | (changed or {})
        return self.remote.commit(changed, message=message)

    async def deliver(
        self, revision: str, body: bytes | None = None, *, before: str | None = None
    ) -> Admission:
        """GitHub's delivery about a commit; the same body by default, as in a redelivery."""
        delivery = a_delivery(body or revision.encode(), revision=revision, received_at=self.clock.now())
        admission = await self.inbox.admit(delivery, [Wanted(SERVICE, revision, HASH, before=before)])
        self.lane.wake()
        return admission

    async def failed(self, revision: str, body: bytes = b"a run") -> Admission:
        """The workflow of `rollback.on_workflow` failed for a commit."""
        delivery = a_delivery(
            body + revision.encode(), revision=revision, event="workflow_run", received_at=self.clock.now()
        )
        admission = await self.inbox.admit(delivery, [Wanted(SERVICE, revision, HASH, back=True)])
        self.lane.wake()
        return admission

    async def green(self, revision: str, event: str = "workflow_run") -> str:
        """GitHub tells that a commit is good: exactly this one is wanted. Returns the deployment's id."""
        wish = Wish(service=SERVICE, revision=revision, requested=revision, config_hash=HASH)
        trigger = Trigger(kind="webhook", event=event, delivery=f"guid-{revision[:7]}")
        now = self.clock.now()
        made = await self.database.write(lambda connection: place(connection, wish, trigger, now))
        self.lane.wake()
        return made

    async def ask(self, requested: str | None = None, *, force: bool = False) -> Deployment:
        """A person's wish."""
        full = requested if requested is not None and len(requested) == 40 else None
        made = await self.journal.request(
            SERVICE, requested=requested, revision=full, force=force, actor="me", config_hash=HASH
        )
        self.lane.wake()
        return made

    async def go_back(self, to: str | None = None) -> Deployment:
        """A person's wish to go back."""
        made = await self.rollbacks.request(SERVICE, to=to, actor="me", config_hash=HASH)
        self.lane.wake()
        return made

    async def resume(self) -> Deployment | None:
        made = await self.services.resume(SERVICE, actor="me", config_hash=HASH)
        self.lane.wake()
        return made

    # --- the agent

    @asynccontextmanager
    async def agent(self) -> AsyncIterator["asyncio.Task[None]"]:
        """A new agent's supervised lane, for as long as the block lasts; at its end it is stopped in order."""
        self.hire()
        self.wire.idle.clear()
        self.wire.state = "idle"
        beat = self.heartbeat.of("lane")
        task = asyncio.create_task(supervise("lane", self.lane.run, self.clock, beat))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})
            if task.cancelled():
                await self.journal.stop_in_order()

    async def idle(self, task: "asyncio.Task[None]", seconds: float = 60) -> bool:
        """Waits until there is nothing to do; False: the agent was killed or stopped before."""
        waiting = asyncio.create_task(self.wire.idle.wait())
        done, _ = await asyncio.wait({task, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert done, f"the lane never came to rest: {self.wire.passed[-20:]}"
        self.wire.idle.clear()
        if task.done() and not task.cancelled() and task.exception() is not None:
            assert isinstance(task.exception(), Killed), task.exception()
        return not task.done()

    async def work(self) -> bool:
        """An agent starts, does all there is to do, and is stopped. False: it was killed or stopped meanwhile."""
        async with self.agent() as task:
            return await self.idle(task)

    async def deploy(self, mood: str = "good", build: str = "say built", **files: str) -> Deployment:
        """A push and its end."""
        revision = await self.push(mood, build, **files)
        assert await self.work()
        return await self.of(revision)

    # --- what became of it

    async def all(self) -> list[Deployment]:
        """Newest first."""
        return list((await self.journal.deployments(limit=1000)).items)

    async def of(self, revision: str) -> Deployment:
        """The newest deployment of a commit."""
        return next(item for item in await self.all() if item.revision == revision)

    async def live(self) -> str | None:
        found = await self.services.live(SERVICE)
        return found.release if found else None

    async def held(self) -> bool:
        return await self.services.hold_of(SERVICE) is not None

    async def again(self, deployment: Deployment) -> Deployment:
        """As it is now."""
        found = await self.journal.deployment(deployment.id)
        assert found is not None
        return found

    async def quarantined(self, revision: str) -> bool:
        return await self.services.quarantined(SERVICE, revision, HASH)

    async def names(self, deployment: Deployment) -> list[str]:
        """The names of a deployment's events, in order."""
        every = await self.events.after(0, 10000)
        return [event.name for event in every if event.deployment == deployment.id]

    async def check(self) -> None:
        """What must hold whenever there is nothing to do, whatever happened before."""
        every = await self.all()
        for item in every:
            assert item.state in ENDS or item.state is State.QUEUED, item
            told = [name.removeprefix("deployment.") for name in await self.names(item)]
            ends = [f"deployment.{name}" for name in told if name in ENDS]
            assert ends == ([f"deployment.{item.state}"] if item.state in ENDS else []), (item, ends)
            assert all(step.state != "running" for step in item.steps) or item.state is State.QUEUED, item
        live, running = await self.live(), self.runtime.running
        assert await self.releases.current() == live, every
        ended = [item for item in every if item.state in ENDS and item.state is not State.SUPERSEDED]
        if not (ended and ended[0].state is State.BROKEN):
            assert (running.release if running else None) == live, every
        confirmed = {item.name for item in await self.journal.releases(SERVICE) if item.confirmed_at}
        assert live is None or live in confirmed
        if live is not None:
            await self.releases.verify(live)


@asynccontextmanager
async def a_workshop(shop: "type[Workshop] | None" = None, **settings: Any) -> AsyncIterator[Workshop]:
    """A workshop with a real, empty state.db, in memory where there is a file system for that."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        database = Database(Path(directory, "state.db"))
        await database.open()
        try:
            yield (shop or Workshop)(database, FakeClock(), **settings)
        finally:
            await database.close()
