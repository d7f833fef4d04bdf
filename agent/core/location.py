"""Where something stands in the configuration, and what is wrong there.

A location is a tuple of keys and list indexes; people see it dotted, as `services.scraper.health.probes[0].url`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import fields

from agent.core.text import clean

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Finding:
    """One thing wrong. `drop` is what must be left out so that the rest can be read; by default `location`.

    `relies` are other places that had a say: when one of them could not be read, the finding may be an echo.
    """

    location: Location
    message: str
    hint: str = ""
    drop: Location | None = None
    relies: tuple[Location, ...] = ()
    whole: bool = False
    """It speaks for everything below `dropped`: other findings there are only its echo."""

    @property
    def dropped(self) -> Location:
        """The location to leave out."""
        return self.location if self.drop is None else self.drop

    @property
    def is_missing(self) -> bool:
        """Whether it is about something that is not there: the block around it is what cannot be read."""
        return bool(self.location) and self.dropped == self.location[:-1] and not self.whole

    def below(self, block: Location) -> "Finding":
        """The same, when all locations were written relative to `block`."""
        drop = None if self.drop is None else (*block, *self.drop)
        relies = tuple((*block, *other) for other in self.relies)
        return replace(self, location=(*block, *self.location), drop=drop, relies=relies)


def dotted(location: Location) -> str:
    """The location as people read it."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + clean(part, 64)
    return text


def line_of(lines: Mapping[str, int], path: str) -> int | None:
    """The line of a dotted path, or of the nearest block around it that has one."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path)


def related(one: Location, other: Location) -> bool:
    """Whether one of the two is, or contains, the other."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def walk(
    value: object, location: Location = (), limits: Meta | None = None
) -> Iterator[tuple[Location, object, Meta | None]]:
    """Every block, list and value of typed settings, from the outside in, with the limits of its field."""
    yield location, value, limits
    if isinstance(value, Struct):
        for option in fields(value):
            yield from walk(
                getattr(value, option.name), (*location, option.encode_name), _limits(option.type)
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, (*location, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from walk(item, (*location, index))


def _limits(kind: object) -> Meta | None:
    if get_origin(kind) in (Union, UnionType):  # such as `Annotated[...] | None`
        return next((found for part in get_args(kind) if (found := _limits(part))), None)
    if get_origin(kind) is not Annotated:
        return None
    return next((note for note in get_args(kind)[1:] if isinstance(note, Meta)), None)
