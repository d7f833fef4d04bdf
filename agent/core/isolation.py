"""Builds by a user of their own: what root has to write down for them, as text. Pure: `cli.install` writes it.

A service's *recipe* is what homeport-build@.service may run for it. The agent compares it with what its own
configuration says, and asks for nothing if they differ: what was changed has no force before `homeport install`.
"""

import json
from collections.abc import Iterable
from hashlib import sha256

from agent.core.settings import Service
from agent.core.unitfiles import MADE, quoted
from agent.core.units import write_duration

USER = "homeport-build"
"""Who builds."""
RECIPES = "/etc/homeport-build"
CACHE = "/var/cache/homeport-build"
OUTPUT = "/run/homeport-build"
TEMPLATE = "homeport-build@.service"
MIGRATION = "homeport-migrate@.service"
MIGRATION_CACHE = "/var/cache/homeport-migrate"
MIGRATION_OUTPUT = "/run/homeport-migrate"
LINK = ".building"
"""In the service's directory: leads to the release in which a build may write."""
REQUEST = ".building-request"
MARGIN = 60
"""Seconds after the deadline at which systemd ends the unit, if the agent did not."""
_IO = {"idle": ("idle", 7), "low": ("best-effort", 7), "normal": ("best-effort", 4)}


def unit_of(service: str, template: str = TEMPLATE) -> str:
    """What builds this service; or migrates its data."""
    return template.replace("@", f"@{service}")


def drop_in_of(service: str, template: str = TEMPLATE) -> str:
    """The name of its drop-in, below the directory of the units."""
    return f"{unit_of(service, template)}.d/10-install.conf"


def recipe_path(service: str) -> str:
    """Where its recipe stands."""
    return f"{RECIPES}/{service}.json"


def recipe(name: str, service: Service) -> str:
    """What may be run for a service, and how: all that `install` has to write down anew when it changes."""
    build = service.deploy.build
    parts = {
        "service": name,
        "directory": service.directory,
        "commands": build.commands,
        "always": build.always,
        "migrate": service.deploy.migrate,
        "environment": service.runtime.environment,
        "build_environment": build.environment,
        "memory": build.memory,
        "timeout": build.timeout,
        "nice": build.nice,
        "io": build.io,
    }
    return json.dumps(parts, indent=1, sort_keys=True) + "\n"


def digest(recipe: str) -> str:
    """What names a recipe."""
    return sha256(recipe.encode()).hexdigest()


def drop_in(service: Service, others: Iterable[str]) -> str:
    """For the instance of one service. `others` are places that it must not see."""
    build, directory = service.deploy.build, service.directory
    kind, priority = _IO[build.io]
    hidden = [f"{directory}/shared", f"{directory}/mirror.git", *sorted(others)]
    lines = [
        f"ReadWritePaths={_optional(f'{directory}/{LINK}')}",
        *(f"InaccessiblePaths={_optional(path)}" for path in hidden),
        f"TimeoutStartSec={write_duration(build.timeout + MARGIN)}",
        f"Nice={build.nice}",
        f"IOSchedulingClass={kind}",
        f"IOSchedulingPriority={priority}",
    ]
    return _text(lines)


def migration_drop_in(service: Service, user: str, others: Iterable[str]) -> str:
    """For the instance of one service whose unit runs as `user`."""
    directory = service.directory
    hidden = [f"{directory}/mirror.git", *sorted(others)]
    lines = [
        f"User={user}",
        f"ReadWritePaths={_optional(f'{directory}/shared')}",
        *(f"InaccessiblePaths={_optional(path)}" for path in hidden),
        f"TimeoutStartSec={write_duration(service.deploy.build.timeout + MARGIN)}",
    ]
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    return MADE + "[Service]\n" + "".join(f"{line}\n" for line in lines)


def _optional(path: str) -> str:
    """With the sign that it may be missing, which stands inside of the quotes."""
    return quoted(f"-{path}")
