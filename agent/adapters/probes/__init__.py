"""What a service is asked: one module per kind. A new one is one file, one line here and one in its contract test."""

from collections.abc import Callable, Iterable
from typing import Any

from agent.adapters.probes.command import CommandProbe
from agent.adapters.probes.freshness import FreshnessProbe
from agent.adapters.probes.http import HttpProbe
from agent.adapters.probes.sparing import Sparing
from agent.adapters.probes.surroundings import Surroundings
from agent.adapters.probes.tcp import TcpProbe
from agent.adapters.probes.unit import UnitProbe
from agent.core.ports import Probe
from agent.core.settings import AnyProbe

__all__ = ["PROBES", "Surroundings", "probes_of"]

PROBES: dict[str, Callable[[Any, Surroundings], Probe]] = {
    "command": CommandProbe,
    "freshness": FreshnessProbe,
    "http": HttpProbe,
    "tcp": TcpProbe,
    "unit": UnitProbe,
}
"""`probes[].kind` -> class. Constructed as `PROBES[kind](options, surroundings)`."""


def probes_of(
    options: Iterable[AnyProbe], surroundings: Surroundings
) -> tuple[tuple[Probe, ...], tuple[Probe, ...]]:
    """What is asked while a new version proves itself, and what at rest. A probe that is in both is the same one."""
    made: list[tuple[AnyProbe, Probe]] = [
        (block, PROBES[str(block.__struct_config__.tag)](block, surroundings)) for block in options
    ]
    trial = tuple(probe for block, probe in made if block.when != "live")
    at_rest = tuple(
        Sparing(probe, block.every, surroundings.clock) if block.every else probe
        for block, probe in made
        if block.when != "deploy"
    )
    return trial, at_rest
