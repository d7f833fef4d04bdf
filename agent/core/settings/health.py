"""What is asked of a service, and what counts as healthy."""

from typing import Annotated, Literal

from msgspec import Meta, field

from agent.core.settings.basics import DAY, HOUR, MINUTE, Options, Seconds, SecretRef, Text, between


class ProbeOptions(Options, frozen=True, kw_only=True):
    """What every probe can be told."""

    when: Literal["always", "deploy", "live"] = "always"
    """`deploy`: asked only while a new version proves itself. `live`: only afterwards, by the monitor."""
    every: Annotated[Seconds, between(0, DAY)] = Seconds(0)
    """For the monitor: so long a good answer counts before it is asked again. `0s`: it is asked at every look."""


Scalar = str | int | float | bool | None


class HttpProbe(ProbeOptions, frozen=True, kw_only=True, tag_field="kind", tag="http"):
    """A request that must be answered as is said here."""

    url: str
    """http or https; a loopback address is also checked for whose socket answers."""
    method: Literal["GET", "HEAD"] = "GET"
    """HEAD asks for no body."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with it. Never a secret: these values stand in the file and are shown."""
    bearer: SecretRef | None = None
    """Sent as `Authorization: Bearer`, but not to another host that it is redirected to."""
    verify_tls: bool = True
    """Whether the certificate of an https address must be valid for its name."""
    redirects: Annotated[int, Meta(ge=0, le=10)] = 0
    """How many redirects are followed: to http and https only, and never from https to http."""
    status: Annotated[int, Meta(ge=100, le=599)] = 200
    """The status that means healthy."""
    json: dict[str, Scalar] = field(default_factory=dict)
    """What the JSON object in the body must say: dotted paths and values, as in `{status: healthy, db.rows: 3}`."""
    body: Text | None = None
    """Text that the body must contain, within its first 64 KiB."""
    latency: Annotated[Seconds, between(0, 5 * MINUTE)] = Seconds(0)
    """A right answer that takes longer is not healthy. `0s`: only `timeout` counts."""
    timeout: Annotated[Seconds, between(0.01, 5 * MINUTE)] = Seconds(5)
    """The deadline of the whole question."""


class TcpProbe(ProbeOptions, frozen=True, kw_only=True, tag_field="kind", tag="tcp"):
    """A port that must take connections."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    """The TCP port."""
    host: str = "127.0.0.1"
    """An address or a name; a loopback address is also checked for whose socket it is."""
    timeout: Annotated[Seconds, between(0.01, 5 * MINUTE)] = Seconds(5)
    """The deadline of one connection."""


class CommandProbe(ProbeOptions, frozen=True, kw_only=True, tag_field="kind", tag="command"):
    """A shell command that must end as is said here: run in the release, with the environment of the service."""

    command: Text
    """A line for /bin/sh. When it ends, everything that it started is ended as well."""
    status: Annotated[int, Meta(ge=0, le=255)] = 0
    """The exit status that means healthy."""
    timeout: Annotated[Seconds, between(0.1, 5 * MINUTE)] = Seconds(10)
    """Its deadline."""


class FreshnessProbe(ProbeOptions, frozen=True, kw_only=True, tag_field="kind", tag="freshness"):
    """A time that must not be long ago: a Unix time (s, ms, us, ns) or ISO 8601, in UTC if it names no zone."""

    max_age: Annotated[Seconds, between(1, 366 * DAY)]
    """How long ago it may be."""
    sqlite: Text | None = None
    """A SQLite database to ask, relative to the service's directory. It is only read."""
    query: Text | None = None
    """One SELECT of one value."""
    command: Text | None = None
    """Instead of a database: a line for /bin/sh, run like a command probe. The last line of its output counts."""
    timeout: Annotated[Seconds, between(0.1, MINUTE)] = Seconds(5)
    """The deadline of one question."""


class UnitProbe(ProbeOptions, frozen=True, kw_only=True, tag_field="kind", tag="unit"):
    """A unit of systemd that must be active."""

    unit: Text | None = None
    """The unit, such as `scraper-worker.service` or `scraper.timer`; by default the one of `runtime`."""
    timeout: Annotated[Seconds, between(0.1, MINUTE)] = Seconds(5)
    """The deadline of one question."""


AnyProbe = HttpProbe | TcpProbe | CommandProbe | FreshnessProbe | UnitProbe


class Health(Options, frozen=True, kw_only=True):
    """When a new version counts as healthy."""

    every: Annotated[Seconds, between(0.01, HOUR)] = Seconds(2)
    """How often it is asked, from the switch to the end of the soak."""
    timeout: Annotated[Seconds, between(0.1, DAY)] = Seconds(60)
    """The time to become healthy after the switch."""
    successes: Annotated[int, Meta(ge=1, le=1000)] = 3
    """How many answers in a row make it healthy."""
    soak: Annotated[Seconds, between(0, DAY)] = Seconds(10)
    """Then, how long it must stay so, without one failure or restart."""
    restarts: Annotated[int, Meta(ge=0, le=100)] = 3
    """So many times within an hour a service that is unwell between deployments is started again, after longer and
    longer pauses; then it is held until a person resumes it. `0`: it is only told."""
    probes: tuple[AnyProbe, ...] = ()
    """What is asked, all at once; without any, a process that stays alive is healthy."""
