"""What the web floor needs of the rest of the agent, in one place; `app.py` fills it in.

A reload makes a new Context, which shares all that lives long with the one before it, and hands it to the server. A
request keeps the one that it began with, so that it sees one configuration from its first line to its last.

`health` answers at once, from memory: /health must not wait for a disk.
"""

import grp
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.core import access
from agent.core.errors import Unavailable
from agent.core.limits import Strikes
from agent.core.model import Polled
from agent.core.ports import Clock
from agent.core.reload import ConfigStatus, Reloaded
from agent.core.settings import Settings
from agent.services.backup import Backups
from agent.services.drill import Drills
from agent.services.progress import Progress
from agent.services.pruning import Pruning
from agent.services.restore import Restores
from agent.store.events import EventLog
from agent.store.inbox import Inbox
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from agent.web.intake import Intake

GROUP = "homeport"
"""Members of this group hold every scope on the unix socket."""


def local_peer(uid: int, gid: int) -> access.Principal:
    """Who is behind these credentials of the unix socket (SO_PEERCRED), by the system's user database."""
    try:
        name = pwd.getpwuid(uid).pw_name
        groups = {gid, *os.getgrouplist(name, gid)}
    except KeyError:  # a user of a container, say: known by number only
        name, groups = f"uid {uid}", {gid}
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        group = None
    return access.peer(name, uid, groups, own=os.geteuid(), group=group)


def _no_lane(service: str) -> None:
    """The lane finds its work by itself, a little later."""
    del service


async def _unwatched(service: str) -> None:
    """The monitor finds it at its next look."""
    del service


def _never(service: str) -> None:
    del service


async def _nothing() -> dict[str, object]:
    return {}


def _no_config() -> ConfigStatus | None:
    return None


async def _no_file(actor: str) -> Reloaded:
    raise Unavailable("stopping", f"there is no file that {actor} could have reloaded")


@dataclass(kw_only=True)
class Context:
    """Everything that a request may touch."""

    settings: Settings
    journal: Journal
    inbox: Inbox
    services: ServiceRows
    rollbacks: Rollbacks
    events: EventLog
    backups: Backups
    restores: Restores
    pruning: Pruning
    drills: Drills
    clock: Clock
    version: str
    started: float
    """Monotonic seconds at the agent's start."""
    webhook_secrets: tuple[bytes, ...] = ()
    keys: tuple[access.Key, ...] = ()
    """The tokens of `access.tokens`, resolved."""
    config_hash: Mapping[str, str] = field(default_factory=dict)
    """Of each service: a quarantine counts for one revision with one configuration."""
    wake: Callable[[str], None] = _no_lane
    """Tells a service's lane that there is work."""
    regard: Callable[[str], Awaitable[None]] = _unwatched
    """Tells the monitor that a service was held or resumed."""
    progress: Progress = field(default_factory=Progress)
    """What the programs of running deployments print."""
    health: Callable[[], Mapping[str, tuple[str, str]]] = dict
    """Per service (state, detail): healthy, unhealthy, held, none or unknown."""
    polled: Callable[[str], Polled | None] = _never
    """What the last poll of a service found."""
    frozen_until: Callable[[str], datetime | None] = _never
    """When the freeze ends in which a service is now."""
    host: Callable[[], Awaitable[Mapping[str, object]]] = _nothing
    """Figures of the machine."""
    redact: Callable[[str], str] = str
    """Hides every secret in a text."""
    trouble: Callable[[], str] = str
    """What is wrong with the state or its disk, as a sentence; "" if nothing is."""
    config: Callable[[], ConfigStatus | None] = _no_config
    """Which file is in force, and whether it still says the same."""
    reload: Callable[[str], Awaitable[Reloaded]] = _no_file
    """Takes up the file as it is now; the actor's name. Raises ConfigError, Unavailable."""
    peer: Callable[[int, int], access.Principal] = local_peer
    """(uid, gid) of the unix socket's other end -> who that is."""
    stopping: bool = False
    """Set when the agent ends: nothing is accepted any more."""
    listening: dict[str, object] = field(default_factory=dict)
    """Where the server answers: filled in by `web.server` when it does."""

    intake: Intake = field(default_factory=Intake)
    """All bodies that are being read."""
    refused_tokens: Strikes = field(default_factory=Strikes)
    """Wrong tokens at the login, per client."""
    proxies: tuple[access.Network, ...] = field(init=False)
    """`trusted_proxies`, as networks."""
    names: frozenset[str] = field(init=False)
    """The host names under which the page and the API may be asked for."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.proxies = access.networks(settings.trusted_proxies)
        self.names = access.names(settings.listen.host, settings.public_url, settings.hosts)

    def stale(self) -> bool:
        """Whether the configuration file is invalid, so that the settings before it are still in force."""
        config = self.config()
        return config is not None and config.stale

    def uptime(self) -> float:
        """Seconds since the start, to the tenth."""
        return round(self.clock.monotonic() - self.started, 1)

    def states(self) -> dict[str, tuple[str, str]]:
        """Per configured service (state, detail); `unknown` where the monitor has not looked yet."""
        known = self.health()
        return {name: known.get(name, ("unknown", "")) for name in self.settings.services}
