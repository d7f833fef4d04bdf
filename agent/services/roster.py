"""Who works for which service: a lane under the newest configuration that it could take up.

Each service has one task, its post, which is manned by one crew after the other. A crew is one configuration at work;
one that is relieved begins nothing new, ends what it has begun, and goes; only then the next one takes up its work.
So a deployment ends under the settings under which it began, and no two crews are ever at work on one service.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from agent.core.ports import Clock
from agent.services.heartbeat import Heartbeat
from agent.services.lanes import Lane
from agent.services.site import Site
from agent.services.supervise import supervise

V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Crew:
    """One service's work under one configuration."""

    site: Site
    lane: Lane
    beside: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What else runs, by name, as long as the lane does."""

    async def run(self, clock: Clock, heartbeat: Heartbeat) -> None:
        """Works until the lane was retired and has ended."""
        name = f"lane {self.site.name}"
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(supervise(other, run, clock, heartbeat.of(other)))
                for other, run in self.beside.items()
            ]
            await supervise(name, self.lane.run, clock, heartbeat.of(name))
            for task in others:
                task.cancel()
        for gone in (name, *self.beside):
            heartbeat.of(gone)(None, "")


class Derived(Mapping[str, V]):
    """What follows from each service's site, always from the one of now."""

    def __init__(self, sites: Mapping[str, Site], derive: Callable[[Site], V]) -> None:
        self._sites = sites
        self._derive = derive

    def __getitem__(self, service: str) -> V:
        return self._derive(self._sites[service])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)


class Roster:
    """All services' posts. `assign` and `dismiss` take effect at once where nothing is going on."""

    def __init__(self, clock: Clock, heartbeat: Heartbeat | None = None) -> None:
        self._clock = clock
        self._heartbeat = heartbeat or Heartbeat(clock)
        self._posts: dict[str, _Post] = {}
        self._group: asyncio.TaskGroup | None = None
        self.sites: dict[str, Site] = {}
        """By service. One that was dismissed stays here: whoever is still busy with it finds it."""
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By service: what must not run beside a deployment holds it. It outlives the crews."""

    def assign(self, crew: Crew) -> None:
        """This crew works for its service from now on, or from the end of what the present one is doing."""
        name = crew.site.name
        if name in self._posts:
            self._posts[name].relieve(crew)
            return
        self._posts[name] = _Post(crew)
        self.sites[name] = crew.site
        if self._group is not None:
            self._group.create_task(self._man(name))

    def dismiss(self, service: str) -> None:
        """Nobody works for the service any more. Its process is left running."""
        if service in self._posts:
            self._posts[service].relieve(None)

    def wake(self, service: str) -> None:
        """There may be work. A redelivery may concern a service that is not configured any more: it has no lane."""
        if service in self._posts:
            self._posts[service].crew.lane.wake()

    def busy(self, service: str) -> bool:
        """Whether a deployment or a backup of the service is going on."""
        return self.locks[service].locked()

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for name in self._posts:
                    group.create_task(self._man(name))
                await asyncio.Event().wait()
            finally:
                self._group = None

    async def _man(self, name: str) -> None:
        post = self._posts[name]
        while post.take_over():
            self.sites[name] = post.crew.site
            await post.crew.run(self._clock, self._heartbeat)
        del self._posts[name]


class _Post:
    """One service's place. `crew` is at work or about to begin."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._next: Crew | None = crew

    def relieve(self, crew: Crew | None) -> None:
        """The present crew goes when it is idle, and this one comes; None: nobody."""
        self._next = crew
        self.crew.lane.retire()

    def take_over(self) -> bool:
        """The next crew is the present one; False: there is none."""
        if self._next is None:
            return False
        self.crew, self._next = self._next, None
        return True
