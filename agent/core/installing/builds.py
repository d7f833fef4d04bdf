"""The parts for builds and migrations that run as users of their own."""

from agent.core import isolation
from agent.core.installing.asked import Facts, isolated_of, migrated_of
from agent.core.installing.names import HOME, UNITS, USER
from agent.core.installing.parts import Kind, Wanted
from agent.core.settings import Service, Settings


def builds(settings: Settings, facts: Facts) -> list[Wanted]:
    """The user, what it may run for whom, and where. What is not wanted any more goes."""
    isolated, migrated = isolated_of(settings), migrated_of(settings, facts)
    gone = [
        Wanted(kind=Kind.ABSENT, name=name, why="it is not built that way any more")
        for service in sorted(facts.recipes - set(isolated))
        for name in (isolation.recipe_path(service), f"{UNITS}/{isolation.drop_in_of(service)}")
    ]
    gone += [
        Wanted(kind=Kind.ABSENT, name=f"{UNITS}/{isolation.drop_in_of(name, isolation.MIGRATION)}",
               why="its data is not migrated that way any more")
        for name in sorted((facts.recipes | set(isolated)) - set(migrated))
    ]  # fmt: skip
    templates = [
        _template(isolation.TEMPLATE, facts, wanted=bool(isolated)),
        _template(isolation.MIGRATION, facts, wanted=bool(migrated)),
    ]
    if not isolated:
        return [*gone, *templates]
    return [
        Wanted(kind=Kind.USER, name=isolation.USER, why="builds are not the agent"),
        Wanted(kind=Kind.MEMBER, name=USER, content=isolation.USER, why="reads what a build prints"),
        Wanted(kind=Kind.DIRECTORY, name=isolation.RECIPES, mode=0o755, why="what builds may run"),
        *gone,
        *(part for name, service in isolated.items() for part in _build(name, service, settings)),
        *(_migration(name, user, settings) for name, user in migrated.items()),
        *templates,
    ]


def _template(name: str, facts: Facts, *, wanted: bool) -> Wanted:
    path = f"{UNITS}/{name}"
    if not wanted:
        return Wanted(kind=Kind.ABSENT, name=path, why="nothing runs that way")
    content = facts.units.get(name, "")
    return Wanted(
        kind=Kind.FILE, name=path, content=content, why="builds and migrations have units of their own"
    )


def _hidden(service: Service, settings: Settings) -> set[str]:
    """Places that neither its builds nor its migrations see, beside those that the units name."""
    others = {other.directory for other in settings.services.values()} - {service.directory}
    own = {settings.state_dir, settings.listen.socket.rpartition("/")[0]} - {HOME, "/run/homeport"}
    return others | own


def _migration(name: str, user: str, settings: Settings) -> Wanted:
    service = settings.services[name]
    return Wanted(
        kind=Kind.FILE, name=f"{UNITS}/{isolation.drop_in_of(name, isolation.MIGRATION)}",
        content=isolation.migration_drop_in(service, user, _hidden(service, settings)),
        why=f"{user} migrates the data of {name}",
    )  # fmt: skip


def _build(name: str, service: Service, settings: Settings) -> list[Wanted]:
    """For one service."""
    return [
        Wanted(
            kind=Kind.FILE, name=isolation.recipe_path(name), group=isolation.USER, mode=0o640,
            content=isolation.recipe(name, service), why=f"what a build of {name} may run",
        ),
        Wanted(
            kind=Kind.WORKPLACE, name=f"{service.directory}/releases", content=isolation.USER,
            why=f"{isolation.USER} builds releases of {name}",
        ),
        Wanted(
            kind=Kind.FILE, name=f"{UNITS}/{isolation.drop_in_of(name)}",
            content=isolation.drop_in(service, _hidden(service, settings)),
            why=f"places and limits of builds of {name}",
        ),
    ]  # fmt: skip
