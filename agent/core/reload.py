"""What a reload changes: the settings in force and those of the file in, the difference out. Pure.

After a reload the agent is as it would be after a restart with the same file, with two exceptions: what listens and
where the state lies stays as it was until there is a restart, and a deployment that runs ends as it began.
"""

from collections.abc import Container
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.core.settings import Settings

FIXED = ("listen", "state_dir")
"""Options that the agent takes up at its start only."""


class ConfigStatus(Struct, frozen=True, kw_only=True):
    """Which configuration is in force. `stale`: the file says something else, and cannot be used."""

    file: str
    loaded_at: datetime
    stale: bool = False
    problems: tuple[dict[str, Any], ...] = ()
    """What is wrong with the file: `path`, `message`, `line` and `hint` of each problem."""


class Difference(Struct, frozen=True, kw_only=True):
    """Names of services, in the order of the file; `restart_needed` has options that did not change yet."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()


class Reloaded(Struct, frozen=True, kw_only=True):
    """What a reload did, as the API answers it."""

    file: str
    loaded_at: datetime
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    """Their processes are left running, and their rows stay."""
    restart_needed: tuple[str, ...]
    """Options whose new value counts from the next start of the agent."""
    after_deployment: tuple[str, ...]
    """Services that are busy: they take up what changed when their deployment or backup has ended."""
    older_runtime: tuple[str, ...]
    """Services whose process was started with another `runtime` than the file has: until their next deployment."""


def difference(running: Settings, wanted: Settings, rotated: Container[str] = ()) -> Difference:
    """What has to be done to get from the settings in force to those of the file. `rotated`: services with a secret
    that has another value now."""
    before, after = running.services, wanted.services
    moved = {name for name in after if running.timezone != wanted.timezone and after[name].deploy.freeze}
    same = {name for name in after if after[name] == before.get(name)} - moved
    return Difference(
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name in after if name in before and (name not in same or name in rotated)),
        removed=tuple(name for name in before if name not in after),
        restart_needed=tuple(
            name
            for option in FIXED
            for name in _changed(option, getattr(running, option), getattr(wanted, option))
        ),
    )


def in_force(running: Settings, wanted: Settings) -> Settings:
    """The settings that count from now on: the file's, without what needs a restart."""
    return replace(wanted, **{option: getattr(running, option) for option in FIXED})


def _changed(option: str, before: object, after: object) -> list[str]:
    if not isinstance(before, Struct):
        return [option] if before != after else []
    return [
        f"{option}.{name}"
        for name in before.__struct_fields__
        if getattr(before, name) != getattr(after, name)
    ]
