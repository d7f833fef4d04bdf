"""How services run: one module per kind. A new one is one file, one line here and one in its contract test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.runtimes.blue_green import BlueGreen
from agent.adapters.runtimes.process import ProcessRuntime
from agent.adapters.runtimes.started import demand_no_other
from agent.adapters.runtimes.swap import Complaint, Swap
from agent.adapters.runtimes.systemd import SystemdRuntime
from agent.core import settings
from agent.core.colours import Colour
from agent.core.ports import Clock, Runtime
from agent.system.units import Units

__all__ = ["RUNTIMES", "BlueGreen", "Place", "SideBySide", "demand_no_other", "notes_in"]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """How versions change over beside each other; `complaint` asks as users do, at the port `front`."""

    rules: settings.BlueGreen
    front: int
    complaint: Complaint
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a service runs, and what its runtime may use."""

    service: str
    directory: Path
    """The service's own, with `current`."""
    state: Path
    """The runtime's own, in the agent's state."""
    units: Units
    redact: Callable[[str], str] = str
    beside: SideBySide | None = None
    """Set if versions change over side by side."""


RUNTIMES: Mapping[str, Callable[[Any, Place], Runtime]] = {
    "process": lambda options, at: ProcessRuntime(
        options, service=at.service, state=at.state, redact=at.redact
    ),
    "systemd": lambda options, at: (
        _unit(options, at) if at.beside is None else _two_units(options, at, at.beside)
    ),
}
"""`runtime.kind` -> what makes it of its options and its place."""


def notes_in(state: Path) -> list[Path]:
    """Where the runtimes of a service write down which unit they have started."""
    return [state / "unit", *(state / colour / "unit" for colour in Colour)]


def _unit(options: settings.SystemdRuntime, at: Place) -> SystemdRuntime:
    return SystemdRuntime(
        options,
        state=at.state,
        directory=at.directory,
        units=at.units,
        redact=at.redact,
        embedded=_embedded(at).stop,
    )


def _two_units(options: settings.SystemdRuntime, at: Place, beside: SideBySide) -> BlueGreen:
    swap = Swap(
        at.service,
        beside.rules.ports,
        front=beside.front,
        noted=at.state / "serving",
        units=at.units,
        clock=beside.clock,
        complaint=beside.complaint,
        redact=at.redact,
    )
    return BlueGreen(
        options,
        beside.rules,
        swap,
        state=at.state,
        directory=at.directory,
        units=at.units,
        clock=beside.clock,
        redact=at.redact,
        embedded=_embedded(at).stop,
    )


def _embedded(at: Place) -> ProcessRuntime:
    """What the agent started itself before the configuration named a unit."""
    return ProcessRuntime(
        settings.ProcessRuntime(command=("/bin/false",)), service=at.service, state=at.state
    )
