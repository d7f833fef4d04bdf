"""Runs a service's build and migrate commands as other users, in units of their own. Answers `core.ports.Builder`.

The units have their own limits and see nothing of the agent's; `system.isolated` is what they run. What comes of it is
told as `adapters.builder` tells it.
"""

from collections.abc import Callable
from pathlib import Path

from agent.adapters.errand import Errand
from agent.adapters.transcript import Task, Transcript
from agent.adapters.workshop import Workshop
from agent.core import isolation
from agent.core.model import Launch
from agent.core.ports import Builder, Heard, unheard
from agent.core.settings import Service
from agent.system.telling import PACE


class IsolatedBuilder:
    """`builds` and `migrations` are the units. Without the latter, `beside` migrates: the data is the agent's own."""

    def __init__(
        self,
        name: str,
        service: Service,
        builds: Workshop,
        beside: Builder,
        redact: Callable[[str], str],
        *,
        migrations: Workshop | None = None,
        floor: int = 64 << 20,
        pace: float = PACE,
    ) -> None:
        self._deploy = deploy = service.deploy
        self._beside = beside
        recipe, transcript = isolation.recipe(name, service), Transcript(redact, floor)
        build = Task("the build", "build-failed", "build-timeout", deploy.build.memory)
        migration = Task("the migration", "migrate-failed", "migrate-timeout")
        seconds = deploy.build.timeout
        self._build = Errand(builds, build, recipe, transcript, seconds=seconds, pace=pace)
        self._migration = (
            Errand(migrations, migration, recipe, transcript, seconds=seconds, pace=pace)
            if migrations
            else None
        )

    async def build(self, launch: Launch, heard: Heard = unheard, *, reused: bool = False) -> str:
        """See `core.ports.Builder`. Each command's output follows a line `$ command`. Raises build-not-prepared where
        root has not allowed these commands; unit-refused, systemd-unreachable and so on."""
        build = self._deploy.build
        commands, act = (build.always, "reused") if reused else (build.commands + build.always, "build")
        return await self._build.run(act, commands, Path(launch.directory), launch.revision, heard)

    async def migrate(self, launch: Launch, heard: Heard = unheard) -> str:
        """See `core.ports.Builder`. Raises as `build` does."""
        if self._migration is None:
            return await self._beside.migrate(launch, heard)
        place = Path(launch.directory)
        return await self._migration.run("migrate", self._deploy.migrate, place, launch.revision, heard)
