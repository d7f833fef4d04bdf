"""What `homeport uninstall` takes away, and what it leaves: values in, values out.

What `install` made by itself goes. What a person wrote, and what the agent and the services keep, stays without
`purge`; the services' directories always stay: the services run from them, without the agent as well.
"""

from collections.abc import Iterable

from agent.core import installing, isolation, upstreams
from agent.core.installing import (
    COMMAND,
    DROP_IN,
    ETC,
    HOME,
    JOURNAL,
    PREFIX,
    RULE,
    SHIPPED,
    SUDOERS,
    UNITS,
    USER,
    Kind,
    Wanted,
)
from agent.core.settings import Settings
from agent.core.upgrading import PLACE, UNIT_FILE, VERSIONS

TEMPLATES = (isolation.TEMPLATE, isolation.MIGRATION)
"""Units of builds and migrations, which are there where something is isolated."""
WRITTEN = (
    *(f"{UNITS}/{name}" for name in (*SHIPPED, *TEMPLATES)), DROP_IN, RULE, SUDOERS, upstreams.TABLE, JOURNAL,
)  # fmt: skip
"""Files that `install` keeps as it wants them."""


def removals(*, purge: bool, recipes: Iterable[str] = ()) -> list[Wanted]:
    """What must not be there afterwards, in order. `recipes`: the services for which there is a recipe of builds."""
    names = [*WRITTEN, UNIT_FILE]
    for service in recipes:
        names.append(isolation.recipe_path(service))
        names += [f"{UNITS}/{isolation.drop_in_of(service, template)}" for template in TEMPLATES]
    names.append(isolation.RECIPES)
    parts = [Wanted(kind=Kind.ABSENT, name=name, why="made by `homeport install`") for name in names]
    parts.append(Wanted(kind=Kind.ABSENT, name=PLACE, why="what was noted of upgrades"))
    if purge:
        parts += [
            Wanted(kind=Kind.ABSENT, name=ETC, why="the configuration and the secrets"),
            Wanted(kind=Kind.ABSENT, name=HOME, why="the state and the backups"),
            Wanted(kind=Kind.ABSENT, name=isolation.CACHE, why="what builds have kept"),
            Wanted(kind=Kind.ABSENT, name=isolation.MIGRATION_CACHE, why="what migrations have kept"),
            Wanted(kind=Kind.ABSENT, name=f"{UNITS}/{installing.SERVICE}.d", why="drop-ins"),
        ]
    return parts


def stays(settings: Settings | None, *, purge: bool) -> list[str]:
    """Sentences about what is left. `settings` is None where the configuration cannot be read."""
    left = (
        [] if purge else [f"{ETC} (configuration and secrets)", f"{HOME} (state and backups)", f"user {USER}"]
    )
    if settings is not None:
        if settings.state_dir != HOME:
            left.append(f"{settings.state_dir} (state and backups)")
        left += [f"{service.directory} (service {name})" for name, service in settings.services.items()]
    left.append(f"{PREFIX}, {VERSIONS} where it was upgraded (the program), and {COMMAND}")
    return left
