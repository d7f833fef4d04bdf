"""How services run: one module per kind. A new one is one file, one line here and one in its contract test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.runtimes.process import ProcessRuntime
from agent.adapters.runtimes.systemd import SystemdRuntime
from agent.core import settings
from agent.core.ports import Runtime
from agent.system.units import Units

__all__ = ["RUNTIMES", "Place"]


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


RUNTIMES: Mapping[str, Callable[[Any, Place], Runtime]] = {
    "process": lambda options, at: ProcessRuntime(
        options, service=at.service, state=at.state, redact=at.redact
    ),
    "systemd": lambda options, at: SystemdRuntime(
        options,
        state=at.state,
        directory=at.directory,
        units=at.units,
        redact=at.redact,
        embedded=ProcessRuntime(
            settings.ProcessRuntime(command=("/bin/false",)), service=at.service, state=at.state
        ).stop,
    ),
}
"""`runtime.kind` -> what makes it of its options and its place."""
