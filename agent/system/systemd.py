"""The way to systemd that works here: the bus; systemctl where no bus answers; sudo for what polkit refuses."""

import logging
import shutil

from agent.system.bus import BusUnits
from agent.system.systemctl import CommandUnits
from agent.system.units import UnitError, Units, UnitState, Verb, Why

log = logging.getLogger(__name__)


class Systemd:
    """`system.units.Units` by whichever way leads there. A detour is told once."""

    def __init__(
        self, bus: Units | None = None, command: Units | None = None, sudo: Units | None = None
    ) -> None:
        self._bus = bus or BusUnits()
        self._command = command or CommandUnits()
        self._sudo = sudo or CommandUnits(("sudo", "-n"))
        self._told: set[str] = set()

    async def look(self, unit: str) -> UnitState:
        """See the protocol."""
        try:
            return await self._bus.look(unit)
        except UnitError as error:
            if error.why is not Why.UNREACHABLE:
                raise
            self._tell(f"no answer on the system bus ({error}): asking systemctl")
        return await self._command.look(unit)

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        """See the protocol."""
        try:
            return await self._directly(verb, unit, patience)
        except UnitError as error:
            if error.why is not Why.REFUSED or shutil.which("sudo") is None:
                raise
            try:
                result = await self._sudo.call(verb, unit, patience=patience)
            except UnitError as refused:
                if refused.why is Why.REFUSED:  # the first way's answer says what to mend
                    raise error from refused
                raise
            self._tell(f"polkit refuses {unit} ({error}): sudo is used")
            return result

    async def memory(self, unit: str) -> int | None:
        """See the protocol."""
        try:
            return await self._bus.memory(unit)
        except UnitError as error:
            if error.why is not Why.UNREACHABLE:
                raise
        return await self._command.memory(unit)

    async def close(self) -> None:
        """See the protocol."""
        await self._bus.close()

    async def _directly(self, verb: Verb, unit: str, patience: float) -> str:
        try:
            return await self._bus.call(verb, unit, patience=patience)
        except UnitError as error:
            if error.why is not Why.UNREACHABLE:
                raise
            self._tell(f"no answer on the system bus ({error}): using systemctl")
        return await self._command.call(verb, unit, patience=patience)

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)
