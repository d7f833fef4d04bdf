"""A shell command that must end as expected."""

import asyncio

from agent.adapters.probes.shell import Shell, how_it_ended
from agent.adapters.probes.surroundings import Surroundings
from agent.core import settings
from agent.core.model import Launch, Probed


class CommandProbe:
    """`core.ports.Probe` for `{kind: command}`."""

    address: tuple[str, int] | None = None

    def __init__(self, options: settings.CommandProbe, surroundings: Surroundings) -> None:
        self._options = options
        self._shell = Shell(options.command, options, surroundings)

    async def ask(self, launch: Launch) -> Probed:
        """See `core.ports.Probe`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            healthy, detail = await self._run(launch)
        except OSError as error:
            healthy, detail = False, f"cannot be started: {error.strerror}"
        return Probed(healthy=healthy, detail=f"{self._shell}: {detail}", seconds=loop.time() - began)

    async def _run(self, launch: Launch) -> tuple[bool, str]:
        done = await self._shell.run(launch, self._options.timeout)
        healthy = not done.timed_out and done.status == self._options.status
        if done.timed_out:
            detail = f"not done within {self._options.timeout:g} s"
        elif healthy:
            detail = how_it_ended(done)
        else:
            detail = f"{how_it_ended(done)} instead of {self._options.status}"
        said = self._shell.shown(done.text)
        return healthy, f"{detail}: {said}" if said else detail
