"""One service with the tools that its deployments need; `app` makes one for each configured service."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent.core.freeze import NEVER, Freeze
from agent.core.model import Launch, Release
from agent.core.ports import Beside, Builder, Knock, Probe, Releases, Runtime, Source
from agent.core.settings import Service

Room = Callable[[], Awaitable[None]]
Demand = Callable[[], Awaitable[None]]


async def no_room() -> None:
    """Nothing was put aside for a full disk."""


async def no_demand() -> None:
    """The service never was anything else."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Values of `core.ports` for one service."""

    name: str
    settings: Service
    config_hash: str
    source: Source
    releases: Releases
    builder: Builder
    runtime: Runtime
    probes: Sequence[Probe]
    """What is asked while a new version proves itself."""
    probes_at_rest: Sequence[Probe]
    """What the monitor asks afterwards."""
    door: Knock | None = None
    """Where its users knock, for the figures of an outage; None: nobody can."""
    beside: Beside | None = None
    """The runtime, if versions change over side by side."""
    freeze: Freeze = NEVER
    """When nothing is deployed by itself."""
    alone: Demand = no_demand
    """Before anything is started: nothing runs on as what the service was by an earlier configuration. Raises
    unit-left-running."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Is held while it is built. Those whose builds are one user have one: they could get at each other."""
    room: Room = no_room
    """Before anything is stopped: sees to it that a full disk has what a start needs, as far as it can."""

    def launch(self, release: Release) -> Launch:
        """What the runtime starts for a release."""
        return Launch(
            service=self.name,
            release=release.name,
            revision=release.revision,
            directory=os.path.realpath(self.releases.path(release.name)),
        )
