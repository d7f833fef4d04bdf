"""A unit of systemd that must be active: a service, or a worker or a timer that belongs to it.

A systemd that does not answer says nothing about the unit: then what it said last counts, but never what it said while
another release ran.
"""

import asyncio

from agent.adapters.probes.surroundings import Surroundings
from agent.core import settings
from agent.core.model import Launch, Probed
from agent.core.text import clean
from agent.system.units import UnitError, UnitState


class UnitProbe:
    """`core.ports.Probe` for `{kind: unit}`."""

    def __init__(self, options: settings.UnitProbe, surroundings: Surroundings) -> None:
        assert options.unit is not None, "the settings are complete"
        assert surroundings.units is not None
        self._unit, self._timeout = options.unit, options.timeout
        self._units = surroundings.units
        self._redact = surroundings.redact
        self._last: tuple[Launch, bool, str] | None = None
        self.address: tuple[str, int] | None = None

    async def ask(self, launch: Launch) -> Probed:
        """See `core.ports.Probe`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._timeout):
                state = await self._units.look(self._unit)
            healthy, detail = state.is_active, _described(state)
            self._last = launch, healthy, detail
        except TimeoutError:
            healthy, detail = self._as_before(launch, f"systemd has not answered within {self._timeout:g} s")
        except UnitError as error:
            healthy, detail = self._as_before(launch, clean(self._redact(str(error))))
        return Probed(healthy=healthy, detail=f"{self._unit}: {detail}", seconds=loop.time() - began)

    def _as_before(self, launch: Launch, trouble: str) -> tuple[bool, str]:
        if self._last is None or self._last[0] != launch:
            return False, trouble
        _, healthy, detail = self._last
        return healthy, f"{detail} when it was asked last; {trouble}"


def _described(state: UnitState) -> str:
    detail = f"{state.active} ({state.sub})" if state.load == "loaded" else state.load
    return detail if state.is_active or state.result == "success" else f"{detail}, {state.result}"
