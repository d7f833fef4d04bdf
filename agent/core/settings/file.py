"""One service, and the whole file."""

from msgspec import field

from agent.core.settings.agent import Access, GitHub, Listen, Monitor
from agent.core.settings.backups import BackupOptions
from agent.core.settings.basics import Options
from agent.core.settings.deploying import BlueGreen, Deploy, Rollback
from agent.core.settings.health import Health
from agent.core.settings.runtimes import ProcessRuntime, SystemdRuntime
from agent.core.settings.source import Source


class Service(Options, frozen=True, kw_only=True):
    """One service that the agent deploys and runs."""

    source: Source
    """Where its revisions come from."""
    runtime: ProcessRuntime | SystemdRuntime
    """How it runs."""
    directory: str = ""
    """Where it lives; `/srv/` and the service's name by default. Relative to the file."""
    deploy: Deploy = field(default_factory=Deploy)
    """When and how a revision becomes a release."""
    health: Health = field(default_factory=Health)
    """When a new version counts as healthy."""
    rollback: Rollback = field(default_factory=Rollback)
    """The guard against rollback loops."""
    backup: BackupOptions = field(default_factory=BackupOptions)
    """What is saved before each switch."""
    blue_green: BlueGreen | None = None
    """For `deploy.strategy: blue-green`: the two instances, and nginx before them."""


class Settings(Options, frozen=True, kw_only=True):
    """The whole file."""

    listen: Listen = field(default_factory=Listen)
    """Where the agent answers."""
    public_url: str | None = None
    """The address under which the world reaches the agent; its host name is allowed."""
    hosts: tuple[str, ...] = ()
    """Further names under which the page and the API may be asked for."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-For is believed."""
    timezone: str | None = None
    """The time zone of `deploy.freeze`, such as Europe/Berlin; by default the machine's."""
    state_dir: str = "/var/lib/homeport"
    """Where the agent keeps its state and the backups."""
    access: Access = field(default_factory=Access)
    """Who may use the API over TCP."""
    github: GitHub = field(default_factory=GitHub)
    """What connects the agent with GitHub."""
    services: dict[str, Service] = field(default_factory=dict)
    """What it deploys and runs."""
    monitor: Monitor = field(default_factory=Monitor)
    """Watching outside of deployments."""
