"""What a configuration asks of the machine: units, users, rights, credentials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.core import isolation, upstreams
from agent.core.colours import Colour, instance
from agent.core.configuration import needs_secrets
from agent.core.installing.names import USER
from agent.core.settings import Service, Settings, SystemdRuntime


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was looked at. `units` are the texts of the shipped ones; `credentials` the names of the files that are in
    the credentials' directory."""

    units: Mapping[str, str]
    verbs: Sequence[str]
    systemctl: str
    polkit: bool = True
    journal_limited: bool = False
    credentials: frozenset[str] = frozenset()
    users: Mapping[str, str] = field(default_factory=dict)
    """Of units, whom they run as; "" for root, and for a unit that is not there."""
    recipes: frozenset[str] = frozenset()
    """The services for which there is a recipe of builds."""


def units_of(settings: Settings) -> list[str]:
    """The units that services run as."""
    return sorted(unit for service in settings.services.values() for unit in names_of(service))


def names_of(service: Service) -> list[str]:
    """The units that a service runs as; with blue-green two instances."""
    if not isinstance(service.runtime, SystemdRuntime):
        return []
    unit = service.runtime.unit
    return [unit] if service.blue_green is None else [instance(unit, colour) for colour in Colour]


def swaps_of(settings: Settings) -> list[str]:
    """The units that the agent must be allowed to start, and nothing else: each swaps nginx's upstream."""
    beside = (name for name, service in sorted(settings.services.items()) if service.blue_green is not None)
    return [upstreams.unit_of(name, colour) for name in beside for colour in Colour]


def isolated_of(settings: Settings) -> dict[str, Service]:
    """The services whose builds run as a user of their own."""
    return {
        name: service
        for name, service in sorted(settings.services.items())
        if service.deploy.build.isolated is not False
    }


def migrated_of(settings: Settings, facts: Facts) -> dict[str, str]:
    """Those of them whose data belongs to a user of its own, who migrates it: the user's name."""
    users = {name: user_of(service, facts) for name, service in isolated_of(settings).items()}
    return {name: user for name, user in users.items() if user}


def rights_of(settings: Settings, facts: Facts) -> list[str]:
    """All units that the agent must be allowed to start and stop: services, their builds and migrations."""
    builds = map(isolation.unit_of, isolated_of(settings))
    migrations = (isolation.unit_of(name, isolation.MIGRATION) for name in migrated_of(settings, facts))
    return sorted({*units_of(settings), *builds, *migrations})


def credentials_of(settings: Settings) -> list[str]:
    """The names of the credentials that the configuration asks systemd for."""
    found = {reference.credential for _, reference in needs_secrets(settings)}
    return sorted(name for name in found if name is not None)


def user_of(service: Service, facts: Facts) -> str:
    """Whom its unit runs as, if that is a user of its own; else ""."""
    user = next((facts.users.get(unit, "") for unit in names_of(service)), "")
    return "" if user in ("root", USER) else user
