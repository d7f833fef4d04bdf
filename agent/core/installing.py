"""What an installed homeport consists of, and what has to change for it: values in, values out.

`wanted` says how the machine must look; `compare` says what is to be done to one part of it. Files that are a person's
(the configuration, secrets, keys) are made if they are missing, and never written again. The order is the order in
which it is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core import isolation, polkit, unitfiles, upstreams
from agent.core.colours import Colour, instance
from agent.core.configuration import needs_secrets
from agent.core.settings import Service, Settings, SystemdRuntime

USER = "homeport"
HOME = "/var/lib/homeport"
PREFIX = "/opt/homeport"
"""Where the unit looks for the program."""
ETC = "/etc/homeport"
CONFIG = f"{ETC}/config.yaml"
CREDENTIALS = f"{ETC}/credentials"
WEBHOOK_SECRET = "webhook-secret"  # noqa: S105 - a name
DEPLOY_KEY = "deploy-key"
UNITS = "/etc/systemd/system"
SERVICE = "homeport.service"
SHIPPED = (SERVICE, "homeport-failed.service", upstreams.UNIT)
DROP_IN = f"{UNITS}/{SERVICE}.d/10-install.conf"
RULE = "/etc/polkit-1/rules.d/50-homeport.rules"
SUDOERS = "/etc/sudoers.d/homeport"
JOURNAL = "/etc/systemd/journald.conf.d/50-homeport.conf"
COMMAND = "/usr/local/bin/homeport"


class Kind(StrEnum):
    """Of a part of the machine."""

    USER = "user"
    MEMBER = "member"
    DIRECTORY = "directory"
    FILE = "file"
    OWN = "own file"
    """A person's: only made."""
    SECRET = "secret"  # noqa: S105 - a word
    KEY = "key"
    LINK = "link"
    ACCESS = "access"
    """Of the user that a service's unit runs as, to the service's directory."""
    WORKPLACE = "workplace"
    """The place of a service's releases, for the user that builds them."""
    ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One part: `name` is a path or a user; `content` a file's text, a link's target, the group of a member, or who is
    given access."""

    kind: Kind
    name: str
    why: str
    content: str = field(default="", repr=False)
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is there under a part's name: `kind` is file, directory, link, user, member, other or "" for nothing."""

    kind: str = ""
    owner: str = ""
    group: str = ""
    mode: int = 0
    content: str = ""
    empty: bool = False


@dataclass(frozen=True)
class Change:
    """`act` is make, write, set (owner and mode), remove, or refuse: a person must look first, `say` says at what."""

    act: str
    what: Wanted
    say: str = ""


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


def wanted(settings: Settings, facts: Facts) -> list[Wanted]:
    """The whole of it. `settings` are complete."""
    return [
        Wanted(kind=Kind.USER, name=USER, why="the agent is not root"),
        Wanted(kind=Kind.MEMBER, name=USER, content="systemd-journal", why="reads what a failed unit said"),
        Wanted(kind=Kind.DIRECTORY, name=ETC, group=USER, mode=0o750, why="the configuration"),
        Wanted(kind=Kind.OWN, name=CONFIG, group=USER, mode=0o640, content=unitfiles.STARTER,
               why="a configuration to begin with"),
        Wanted(kind=Kind.DIRECTORY, name=CREDENTIALS, mode=0o700, why="secrets, which systemd hands over"),
        *_secrets(settings),
        *_directories(settings),
        *_access(settings, facts),
        *_builds(settings, facts),
        *(Wanted(kind=Kind.FILE, name=f"{UNITS}/{name}", content=facts.units[name], why="systemd's unit")
          for name in SHIPPED),
        _drop_in(settings, facts),
        *_rights(settings, facts),
        _upstreams(settings),
        *_journal(facts),
        Wanted(kind=Kind.LINK, name=COMMAND, content=f"{PREFIX}/bin/homeport", why="the command for everybody"),
    ]  # fmt: skip


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
    users = {name: _user_of(service, facts) for name, service in isolated_of(settings).items()}
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


def compare(want: Wanted, seen: Seen) -> Change | None:
    """What is to be done to this part; None: nothing."""
    if want.kind is Kind.ABSENT:
        return Change("remove", want) if seen.kind else None
    if not seen.kind:
        return Change("make", want)
    if want.kind in (Kind.USER, Kind.MEMBER, Kind.ACCESS, Kind.WORKPLACE, Kind.LINK):
        return None  # a link: whatever is under that name, a person put it there
    return _compared(want, seen)


def restarts_agent(changes: Sequence[Change]) -> bool:
    """Whether the running agent goes on without something that was changed."""
    return any(
        change.what.name in (DROP_IN, RULE, SUDOERS, f"{UNITS}/{SERVICE}") for change in changes
    ) or any(change.what.kind in (Kind.USER, Kind.MEMBER, Kind.SECRET) for change in changes)


def reloads_agent(changes: Sequence[Change]) -> bool:
    """Whether the running agent may have another configuration than what was written down from it."""
    return any(change.what.name.startswith(f"{isolation.RECIPES}/") for change in changes)


def reloads_systemd(changes: Sequence[Change]) -> bool:
    """Whether systemd has to read its units again."""
    return any(change.what.name.startswith(f"{UNITS}/") for change in changes)


def _compared(want: Wanted, seen: Seen) -> Change | None:
    """For files and directories."""
    if refusal := _refusal(want, seen):
        return Change("refuse", want, refusal)
    if want.kind is Kind.FILE and seen.content != want.content:
        return Change("write", want)
    if (seen.owner, seen.group, seen.mode) != (want.owner, want.group, want.mode):
        return Change("set", want, f"was {seen.owner}:{seen.group} {seen.mode:04o}")
    return None


def _refusal(want: Wanted, seen: Seen) -> str:
    """Why a person must look first. Nothing of somebody else's is ever taken over."""
    expected = "directory" if want.kind is Kind.DIRECTORY else "file"
    if seen.kind != expected:
        masked = seen.kind == "link" and seen.content == "/dev/null"
        return (
            "is masked: `systemctl unmask` it first"
            if masked
            else f"is no {expected}: move it out of the way"
        )
    if want.owner != USER or seen.owner == USER:
        return ""
    if seen.owner != "root" or not seen.empty:
        return f"belongs to {seen.owner} already: `chown {USER}:{USER}` it if the agent is to deploy there"
    return ""


def _secrets(settings: Settings) -> list[Wanted]:
    """Those that can be made here; the rest a person brings."""
    key = Wanted(
        kind=Kind.KEY, name=f"{CREDENTIALS}/{DEPLOY_KEY}", mode=0o600, why="reads private repositories"
    )
    secret = Wanted(
        kind=Kind.SECRET, name=f"{CREDENTIALS}/{WEBHOOK_SECRET}", mode=0o600, why="what GitHub signs with"
    )
    return [secret, key] if WEBHOOK_SECRET in credentials_of(settings) else [key]


def _directories(settings: Settings) -> list[Wanted]:
    own = [] if settings.state_dir == HOME else [(settings.state_dir, 0o700, "the state and the backups")]
    services = sorted(
        (service.directory, 0o2755, f"where {name} lives") for name, service in settings.services.items()
    )
    return [
        Wanted(kind=Kind.DIRECTORY, name=path, owner=USER, group=USER, mode=mode, why=why)
        for path, mode, why in (*own, *services)
    ]


def _access(settings: Settings, facts: Facts) -> list[Wanted]:
    """Nobody but user and group homeport can read a release; and who is in that group may do everything on the agent's
    socket, so a service's user is not put into it."""
    found = []
    for name, service in sorted(settings.services.items()):
        if user := _user_of(service, facts):
            why = f"{name} runs as {user}: it reads releases, and writes shared/"
            found.append(Wanted(kind=Kind.ACCESS, name=service.directory, content=user, why=why))
    return found


def _user_of(service: Service, facts: Facts) -> str:
    """Whom its unit runs as, if that is a user of its own; else ""."""
    user = next((facts.users.get(unit, "") for unit in names_of(service)), "")
    return "" if user in ("root", USER) else user


def _builds(settings: Settings, facts: Facts) -> list[Wanted]:
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


def _drop_in(settings: Settings, facts: Facts) -> Wanted:
    """A credential without a file would keep the agent from starting at all, and without a reason that one sees."""
    made = {item.name.rpartition("/")[2] for item in _secrets(settings)}
    credentials = [
        (name, f"{CREDENTIALS}/{name}")
        for name in credentials_of(settings)
        if name in facts.credentials | made
    ]
    writable = [item.name for item in _directories(settings)]
    text = unitfiles.drop_in(credentials, writable, sudo=not facts.polkit)
    return Wanted(kind=Kind.FILE, name=DROP_IN, content=text, why="secrets and places of this configuration")


def _rights(settings: Settings, facts: Facts) -> list[Wanted]:
    units, swaps = rights_of(settings, facts), swaps_of(settings)
    rule = Wanted(kind=Kind.FILE, name=RULE, content=polkit.rule(USER, units, facts.verbs, swaps),
                  why="the agent may restart its units, and nothing else")  # fmt: skip
    lines = polkit.sudoers(USER, units, facts.verbs, facts.systemctl, swaps)
    sudoers = Wanted(kind=Kind.FILE, name=SUDOERS, mode=0o440, content=lines,
                     why="no polkit here: the agent may restart its units by sudo, and nothing else")  # fmt: skip
    here, other = (rule, sudoers) if facts.polkit else (sudoers, rule)
    gone = Wanted(kind=Kind.ABSENT, name=other.name, why="the other way is in use")
    return [here, gone] if units else [Wanted(kind=Kind.ABSENT, name=here.name, why="no units"), gone]


def _upstreams(settings: Settings) -> Wanted:
    """What the units of `swaps_of` look up, as root: the agent itself cannot say a port."""
    ports = {
        name: service.blue_green.ports
        for name, service in settings.services.items()
        if service.blue_green is not None
    }
    kind = Kind.FILE if ports else Kind.ABSENT
    return Wanted(
        kind=kind, name=upstreams.TABLE, content=upstreams.table_of(ports) if ports else "",
        why="the ports between which nginx's upstreams change",
    )  # fmt: skip


def _journal(facts: Facts) -> list[Wanted]:
    if facts.journal_limited:
        return []
    return [
        Wanted(
            kind=Kind.FILE, name=JOURNAL, content=unitfiles.JOURNAL, why="the journal takes 200 MB at most"
        )
    ]
