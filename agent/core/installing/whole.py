"""The whole of it, in the order in which it is done, and who has to notice."""

from collections.abc import Sequence

from agent.core import isolation, polkit, unitfiles, upstreams
from agent.core.installing.asked import Facts, credentials_of, rights_of, swaps_of, user_of
from agent.core.installing.builds import builds
from agent.core.installing.names import (
    COMMAND,
    CONFIG,
    CREDENTIALS,
    DEPLOY_KEY,
    DROP_IN,
    ETC,
    HOME,
    JOURNAL,
    PREFIX,
    RULE,
    SERVICE,
    SHIPPED,
    SUDOERS,
    UNITS,
    USER,
    WEBHOOK_SECRET,
)
from agent.core.installing.parts import Change, Kind, Wanted
from agent.core.settings import Settings


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
        *builds(settings, facts),
        *(Wanted(kind=Kind.FILE, name=f"{UNITS}/{name}", content=facts.units[name], why="systemd's unit")
          for name in SHIPPED),
        _drop_in(settings, facts),
        *_rights(settings, facts),
        _upstreams(settings),
        *_journal(facts),
        Wanted(kind=Kind.LINK, name=COMMAND, content=f"{PREFIX}/bin/homeport", why="the command for everybody"),
    ]  # fmt: skip


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
        if user := user_of(service, facts):
            why = f"{name} runs as {user}: it reads releases, and writes shared/"
            found.append(Wanted(kind=Kind.ACCESS, name=service.directory, content=user, why=why))
    return found


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
