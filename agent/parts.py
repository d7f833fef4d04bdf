"""What follows from a configuration: each service's site with its adapters, who may call, what signs a delivery.

`app` makes it at the start and again at a reload. Nothing here runs or holds state.
"""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path

from agent.adapters.builder import ShellBuilder
from agent.adapters.front import Front
from agent.adapters.hands import Hands, OwnHands
from agent.adapters.isolated import IsolatedBuilder
from agent.adapters.knock import door_of
from agent.adapters.probes import Surroundings, TwoSides, probes_of
from agent.adapters.releases import ReleaseDirectory
from agent.adapters.runtimes import (
    RUNTIMES,
    BlueGreen,
    Place,
    SideBySide,
    demand_no_other,
    notes_in,
)
from agent.adapters.source import GitSource
from agent.adapters.workshop import Workshop
from agent.core import installing, isolation
from agent.core import settings as options
from agent.core.access import Key
from agent.core.fingerprint import fingerprint
from agent.core.freeze import freeze_of
from agent.core.ports import Builder, Clock
from agent.core.settings import Settings
from agent.services.site import Demand, Room, Site, no_demand, no_room
from agent.system import environment, zones
from agent.system.secrets import Secrets
from agent.system.units import Units


def tag_of(block: options.Options) -> str:
    """The `kind` of a block of the configuration: the key of the registries."""
    return str(block.__struct_config__.tag)


def site_of(
    name: str,
    service: options.Service,
    state_dir: Path,
    secrets: Secrets,
    clock: Clock,
    units: Units,
    zone: tzinfo = UTC,
    room: Room = no_room,
    turn: asyncio.Lock | None = None,
) -> Site:
    """One service with its adapters, as the configuration chooses them. `units` is the way to systemd, `zone` that of
    `deploy.freeze`; `room` see `Site`. `turn` is that of all isolated builds: they are one user."""
    directory, redact = Path(service.directory), secrets.redact
    surroundings = Surroundings(
        service=name, directory=directory, environment=service.runtime.environment, clock=clock,
        secret=secrets.get, units=units, redact=redact,
    )  # fmt: skip
    front = front_of(service)
    place = Place(
        service=name, directory=directory, state=state_dir / "run" / name, units=units, redact=redact,
        beside=SideBySide(
            rules=service.blue_green, front=front.port, complaint=front.complaint, clock=clock
        )
        if service.blue_green is not None and front is not None else None,
    )  # fmt: skip
    hands, builder = builder_of(name, service, units, redact)
    runtime = RUNTIMES[tag_of(service.runtime)](service.runtime, place)
    beside = runtime if isinstance(runtime, BlueGreen) else None
    probes, probes_at_rest = probes_of(service.health.probes, surroundings, sides_of(service, beside))
    return Site(
        name=name,
        settings=service,
        config_hash=fingerprint(service),
        source=GitSource(service.source, directory, secrets),
        releases=ReleaseDirectory(
            directory, service.deploy.shared, name, saved=saved_of(service), hands=hands
        ),
        builder=builder,
        runtime=runtime,
        beside=beside,
        probes=probes,
        probes_at_rest=probes_at_rest,
        door=front or door_of(service.health.probes),
        freeze=freeze_of(service.deploy, zone),
        alone=alone_of(service, place.state, units),
        room=room,
        turn=turn if turn is not None and is_isolated(service, builder) else asyncio.Lock(),
    )


def alone_of(service: options.Service, state: Path, units: Units) -> Demand:
    """Side by side it may go on as what it was before, until a person ends that: it listens elsewhere."""
    if service.blue_green is not None:
        return no_demand
    return partial(demand_no_other, notes_in(state), installing.names_of(service), units)


def builder_of(
    name: str, service: options.Service, units: Units, redact: Callable[[str], str]
) -> tuple[Hands, Builder]:
    """Who builds: the agent's user in the agent's unit, or another one in a unit of his own."""
    shell = ShellBuilder(name, service.deploy, service.runtime.environment, redact)
    user, wanted = environment.number_of(isolation.USER), service.deploy.build.isolated
    if wanted is None:
        prepared = Path(isolation.recipe_path(name)).exists()
        wanted = prepared and environment.own_name() == installing.USER
    if not wanted:
        return OwnHands(user), shell
    directory, template = Path(service.directory), isolation.MIGRATION
    builds, migrations = Workshop(name, directory, units, user), None
    if Path(installing.UNITS, isolation.drop_in_of(name, template)).exists():
        output = Path(isolation.MIGRATION_OUTPUT)
        migrations = Workshop(name, directory, units, user, template=template, output=output)
    return builds, IsolatedBuilder(name, service, builds, shell, redact, migrations=migrations)


def is_isolated(service: options.Service, builder: Builder) -> bool:
    """Whether another user builds, and not nobody."""
    build = service.deploy.build
    return isinstance(builder, IsolatedBuilder) and bool(build.commands or build.always)


def front_of(service: options.Service) -> Front | None:
    """Where the users of a service that runs side by side come in."""
    rules = service.blue_green
    return None if rules is None else Front(rules.url, verify_tls=rules.verify_tls)


def sides_of(service: options.Service, runtime: BlueGreen | None) -> TwoSides | None:
    """Whom its probes ask."""
    if (
        runtime is None
        or service.blue_green is None
        or not isinstance(service.runtime, options.SystemdRuntime)
    ):
        return None
    ports = service.blue_green.ports
    return TwoSides(unit=service.runtime.unit, ports=ports, colour_of=runtime.colour_of)


def zone_of(settings: Settings) -> tzinfo:
    """The zone of `deploy.freeze`. Raises UnknownZone if the database lost it since the configuration was checked."""
    frozen = any(service.deploy.freeze for service in settings.services.values())
    return zones.load(settings.timezone, os.environ) if frozen else UTC


def webhook_secrets_of(settings: Settings, secrets: Secrets) -> tuple[bytes, ...]:
    """What deliveries may be signed with."""
    return tuple(secrets.get(reference) for reference in settings.github.webhook_secrets)


def keys_of(settings: Settings, secrets: Secrets) -> tuple[Key, ...]:
    """Who may use the API over TCP."""
    return tuple(
        Key(token.name, secrets.get(token.secret), frozenset(token.scopes))
        for token in settings.access.tokens
    )


def hashes_of(settings: Settings) -> dict[str, str]:
    """Each service's fingerprint."""
    return {name: fingerprint(service) for name, service in settings.services.items()}


def saved_of(service: options.Service) -> frozenset[str]:
    """The shared paths that are a source of its backups; none if nothing is saved before a deployment."""
    if service.backup.before_deploy == "off":
        return frozenset()
    files = [source for source in service.backup.sources or () if isinstance(source, options.FilesSource)]
    saved = {path for source in files for path in source.paths}
    return frozenset(path for path in service.deploy.shared if f"shared/{path}" in saved)
