"""A unit of systemd that must be active: a service, or a worker or a timer that belongs to it."""

import asyncio

from agent.adapters.probes.surroundings import Surroundings
from agent.core import settings
from agent.core.model import Launch, Probed
from agent.core.text import clean
from agent.system.units import UnitError


class UnitProbe:
    """`core.ports.Probe` for `{kind: unit}`."""

    def __init__(self, options: settings.UnitProbe, surroundings: Surroundings) -> None:
        assert options.unit is not None, "the settings are complete"
        assert surroundings.units is not None
        self._unit, self._timeout = options.unit, options.timeout
        self._units = surroundings.units
        self._redact = surroundings.redact
        self.address: tuple[str, int] | None = None

    async def ask(self, launch: Launch) -> Probed:  # noqa: ARG002 - the unit is asked, whatever it runs
        """See `core.ports.Probe`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._timeout):
                state = await self._units.look(self._unit)
            healthy = state.runs
            detail = f"{state.active} ({state.sub})" if state.load == "loaded" else state.load
            if not healthy and state.result != "success":
                detail += f", {state.result}"
        except TimeoutError:
            healthy, detail = False, f"systemd has not answered within {self._timeout:g} s"
        except UnitError as error:
            healthy, detail = False, clean(self._redact(str(error)))
        return Probed(healthy=healthy, detail=f"{self._unit}: {detail}", seconds=loop.time() - began)
