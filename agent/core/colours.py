"""Two instances of one service side by side, blue and green: their names, and which of them is meant.

A release runs in one of them at a time. nginx sends the service's users to one of them: that one serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

from msgspec.structs import replace as changed

from agent.core.settings import AnyProbe, HttpProbe, TcpProbe, UnitProbe
from agent.core.units import write_size


class Colour(StrEnum):
    """One of the two."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> "Colour":
        """The one beside it."""
        return Colour.GREEN if self is Colour.BLUE else Colour.BLUE


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is seen of one colour: the release that its link names, and the one that runs ("": nobody knows which)."""

    named: str | None = None
    running: str | None = None


Sides = Mapping[Colour, Side]

MARGIN = 16 << 20
"""Bytes that stay free beside a second copy."""


def is_template(unit: str) -> bool:
    """Whether it is one of which there can be instances: `scraper@.service`."""
    return "@." in unit


def instance(unit: str, colour: Colour) -> str:
    """The unit of one colour."""
    return unit.replace("@.", f"@{colour}.", 1)


def chosen(release: str, sides: Sides, serving: Colour | None) -> Colour:
    """In which colour a release runs, or is to be started."""
    for colour, side in sides.items():
        if side.running == release:
            return colour
    if serving is not None:
        return serving if sides[serving].running is None else serving.other
    for colour, side in sides.items():
        if side.named == release:
            return colour
    return next((colour for colour in Colour if sides[colour].running is None), Colour.GREEN)


def meant(current: str | None, sides: Sides, serving: Colour | None) -> Colour:
    """Which colour somebody asks about who asks about the service: the one of what `current` names, else the one that
    serves, else one that runs."""
    if current is not None:
        runs = [colour for colour, side in sides.items() if side.running == current]
        named = [colour for colour, side in sides.items() if side.named == current]
        for colour in (*runs, *named):
            return colour
    if serving is not None:
        return serving
    return next((colour for colour in Colour if sides[colour].running is not None), Colour.BLUE)


def lacking(need: int, available: int | None) -> str:
    """Why a second copy of what takes `need` bytes does not fit; "" if it does, or if nobody knows."""
    if available is None or need + MARGIN <= available:
        return ""
    return (
        f"{write_size(available >> 20 << 20)} of memory are available,"
        f" and a second copy needs {write_size(-(-(need + MARGIN) // (1 << 20)) << 20)}"
    )


def asked_of(probe: AnyProbe, colour: Colour, *, unit: str, ports: tuple[int, int]) -> AnyProbe:
    """The same question to the instance of one colour. In the configuration the first port stands for either."""
    port = port_of(colour, ports)
    if isinstance(probe, HttpProbe):
        return changed(probe, url=_moved(probe.url, ports[0], port))
    if isinstance(probe, TcpProbe) and probe.port == ports[0]:
        return changed(probe, port=port)
    if isinstance(probe, UnitProbe) and probe.unit == unit:
        return changed(probe, unit=instance(unit, colour))
    return probe


def port_of(colour: Colour, ports: tuple[int, int]) -> int:
    """Where the instance of this colour listens."""
    return ports[0] if colour is Colour.BLUE else ports[1]


def names_port(probe: AnyProbe, port: int) -> bool:
    """Whether a probe asks at this port."""
    if isinstance(probe, HttpProbe):
        return urlsplit(probe.url).port == port
    return isinstance(probe, TcpProbe) and probe.port == port


def _moved(url: str, first: int, port: int) -> str:
    parts = urlsplit(url)
    if parts.port != first:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.removesuffix(f':{first}')}:{port}"))
