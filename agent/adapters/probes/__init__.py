"""What a service is asked: one module per kind. A new one is one file, one line here and one in its contract test."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from agent.adapters.probes.command import CommandProbe
from agent.adapters.probes.either import Either, TwoSides
from agent.adapters.probes.freshness import FreshnessProbe
from agent.adapters.probes.http import HttpProbe
from agent.adapters.probes.sparing import Sparing
from agent.adapters.probes.surroundings import Surroundings
from agent.adapters.probes.tcp import TcpProbe
from agent.adapters.probes.unit import UnitProbe
from agent.core.colours import Colour, asked_of, port_of
from agent.core.ports import Probe
from agent.core.settings import AnyProbe

__all__ = ["PROBES", "Surroundings", "TwoSides", "probes_of"]

PROBES: dict[str, Callable[[Any, Surroundings], Probe]] = {
    "command": CommandProbe,
    "freshness": FreshnessProbe,
    "http": HttpProbe,
    "tcp": TcpProbe,
    "unit": UnitProbe,
}
"""`probes[].kind` -> class. Constructed as `PROBES[kind](options, surroundings)`."""


def probes_of(
    options: Iterable[AnyProbe], surroundings: Surroundings, sides: TwoSides | None = None
) -> tuple[tuple[Probe, ...], tuple[Probe, ...]]:
    """What is asked while a new version proves itself, and what at rest. A probe that is in both is the same one."""
    made = [
        (block, _made(block, surroundings) if sides is None else _either(block, surroundings, sides))
        for block in options
    ]
    trial = tuple(probe for block, probe in made if block.when != "live")
    at_rest = tuple(
        Sparing(probe, block.every, surroundings.clock) if block.every else probe
        for block, probe in made
        if block.when != "deploy"
    )
    return trial, at_rest


def _made(block: AnyProbe, surroundings: Surroundings) -> Probe:
    return PROBES[str(block.__struct_config__.tag)](block, surroundings)


def _either(block: AnyProbe, surroundings: Surroundings, sides: TwoSides) -> Probe:
    """One for each colour, with its port; commands find it as the service does."""
    probes = {}
    for colour in Colour:
        port = {"PORT": str(port_of(colour, sides.ports))}
        around = replace(surroundings, environment={**surroundings.environment, **port})
        probes[colour] = _made(asked_of(block, colour, unit=sides.unit, ports=sides.ports), around)
    return Either(probes, sides)
