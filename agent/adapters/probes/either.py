"""The same question to blue or green, whichever runs what is asked about."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agent.core.colours import Colour
from agent.core.model import Launch, Probed
from agent.core.ports import Probe


@dataclass(frozen=True, kw_only=True)
class TwoSides:
    """How a service runs side by side. `unit` is the template; `colour_of` tells where a launch runs."""

    unit: str
    ports: tuple[int, int]
    colour_of: Callable[[Launch], Awaitable[Colour]]


class Either:
    """`core.ports.Probe` over one for each colour."""

    def __init__(self, probes: Mapping[Colour, Probe], sides: TwoSides) -> None:
        self._probes = probes
        self._colour_of = sides.colour_of
        self.address = probes[Colour.BLUE].address

    async def ask(self, launch: Launch) -> Probed:
        """See `core.ports.Probe`."""
        return await self._probes[await self._colour_of(launch)].ask(launch)
