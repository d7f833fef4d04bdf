"""Time zones, from the system's database: the one that is named, or the machine's own.

There is no silent way out to UTC: a zone that cannot be loaded is an error, because everything that is done at a
local time would be done at another one.
"""

from collections.abc import Mapping
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

LOCALTIME = Path("/etc/localtime")


class UnknownZone(Exception):
    """The zone cannot be loaded; says why."""


def load(name: str | None, environ: Mapping[str, str], localtime: Path = LOCALTIME) -> tzinfo:
    """The zone of this name; without one the machine's: TZ if it is set, else what `localtime` says (tzset(3)).

    Raises UnknownZone.
    """
    if name is not None:
        return _named(name, "is not in the system's time zone database (the package tzdata)")
    told = environ.get("TZ", "").removeprefix(":")
    if told and not told.startswith("/"):
        return _named(told, f"is not given, and TZ={told} is none that can be read")
    path = Path(told) if told else localtime
    try:
        with path.open("rb") as file:
            return ZoneInfo.from_file(file, key=_name_of(path))
    except (OSError, ValueError) as error:
        raise UnknownZone(f"is not given, and the machine's ({path}) cannot be read") from error


def _named(name: str, why: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # a directory's name; `..`, NUL; ZoneInfoNotFoundError
        raise UnknownZone(why) from error


def _name_of(path: Path) -> str:
    """Europe/Berlin of a link into the database; else the path."""
    _, found, name = str(path.resolve()).partition("/zoneinfo/")
    return name if found else str(path)
