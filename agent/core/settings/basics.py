"""What every block of the file is made of: durations, sizes, bounds, references to secrets."""

from typing import Annotated

from msgspec import Meta, Struct


class Seconds(float):
    """A duration, written `200ms 30s 5m 2h 30d`."""


class Bytes(int):
    """A size, written `64M 2G` (powers of 1024), or a plain number of bytes."""


def between(low: float, high: float) -> Meta:
    """Bounds of a duration in seconds or of a size in bytes; `core.contradictions` keeps them."""
    return Meta(extra={"at_least": low, "at_most": high})


MINUTE, HOUR, DAY = 60, 3600, 86400
Text = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block of the file: unknown keys are errors."""


class SecretRef(Options, frozen=True, kw_only=True):
    """A reference to a secret: exactly one of the three. The secret itself never stands in the file."""

    env: str | None = None
    """The name of an environment variable of the agent."""
    file: str | None = None
    """The path of a file that not everybody can read."""
    credential: str | None = None
    """The name of a systemd credential."""


class KeyRef(Options, frozen=True, kw_only=True):
    """A reference to a private key, in a file that ssh reads itself: exactly one of the two."""

    file: str | None = None
    """The path of a file that only the agent's user can read."""
    credential: str | None = None
    """The name of a systemd credential."""
