"""How a service runs."""

from typing import Annotated, Literal

from msgspec import Meta, field

from agent.core.settings.basics import DAY, HOUR, Options, Seconds, Text, between


class Drain(Options, frozen=True, kw_only=True):
    """How a version ends the job at hand before it is stopped."""

    signal: Literal["SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT", "SIGHUP", "SIGWINCH"] | None = None
    """Sent to the service's process, which ends by itself when it has done its job."""
    command: Text | None = None
    """Instead: a line for /bin/sh, run like a command probe. When it has ended, the service is stopped."""
    timeout: Annotated[Seconds, between(0.1, DAY)] = Seconds(300)
    """The deadline; then the service is stopped in the middle of its job."""


class ProcessRuntime(Options, frozen=True, kw_only=True, tag_field="kind", tag="process"):
    """The embedded mode: the agent starts the service itself, and the service outlives the agent."""

    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    """The program and its arguments, run in the release. A relative program with a slash is relative to it."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to PATH, HOME, LANG, HOMEPORT_SERVICE and HOMEPORT_REVISION; nothing else is passed on."""
    stop_timeout: Annotated[Seconds, between(0.1, HOUR)] = Seconds(30)
    """From SIGTERM to SIGKILL."""
    listen: tuple[Text, ...] = ()
    """IP addresses and ports such as `127.0.0.1:9100` that the agent opens and hands to the service as systemd does
    (LISTEN_FDS). While a version gives way to the next, requests wait there instead of failing."""
    drain: Drain | None = None
    """For workers: what is done before SIGTERM, so that a job is not cut off."""


class SystemdRuntime(Options, frozen=True, kw_only=True, tag_field="kind", tag="systemd"):
    """A unit of systemd: systemd starts the service, watches it, and starts it again."""

    unit: Text
    """The unit, such as `scraper.service`. It runs what `current` names: `WorkingDirectory=/srv/scraper/current`. With
    blue-green a template, such as `scraper@.service`, with `WorkingDirectory=/srv/scraper/%i`."""
    environment: dict[str, str] = field(default_factory=dict)
    """Written, with HOMEPORT_SERVICE and HOMEPORT_REVISION, into each release as `.homeport-environment`, which the
    unit reads with `EnvironmentFile=`."""
