"""The typed configuration: this schema is the reference of every option.

The file is YAML; `system.configfile` reads it into plain values with line numbers, `core.configuration`
turns those into these types or into a list of every problem. What a later version will bring stands in
`core.later` and is answered with "not built yet", so that nothing is silently ignored.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from agent.core.model import Scope


class Seconds(float):
    """A duration, written `200ms 30s 5m 2h 30d`."""


class Bytes(int):
    """A size, written `64M 2G` (powers of 1024), or a plain number of bytes."""


def between(low: float, high: float) -> Meta:
    """Bounds of a duration in seconds or of a size in bytes; `core.contradictions` keeps them."""
    return Meta(extra={"at_least": low, "at_most": high})


MINUTE, HOUR, DAY = 60, 3600, 86400
Text = Annotated[str, Meta(min_length=1)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block of the file: unknown keys are errors."""


class SecretRef(Options, frozen=True, kw_only=True):
    """A reference to a secret: exactly one of the three. The secret itself never stands in the file."""

    env: str | None = None
    """The name of an environment variable of the agent."""
    file: str | None = None
    """The path of a file that not everybody can read."""
    credential: str | None = None
    """The name of a systemd credential."""


class KeyRef(Options, frozen=True, kw_only=True):
    """A reference to a private key, in a file that ssh reads itself: exactly one of the two."""

    file: str | None = None
    """The path of a file that only the agent's user can read."""
    credential: str | None = None
    """The name of a systemd credential."""


class Listen(Options, frozen=True, kw_only=True):
    """Where the agent answers."""

    host: str = "127.0.0.1"
    """The address for webhooks, the API and the page; anything but loopback needs a token."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8300
    """The TCP port; 0 takes a free one."""
    socket: str = "/run/homeport/agent.sock"
    """The unix socket that the command line talks to."""


class Token(Options, frozen=True, kw_only=True):
    """A name for whoever calls the API with this secret."""

    name: Text
    """Who calls; stands in events as the actor."""
    secret: SecretRef
    """At least 16 bytes."""
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)] = (Scope.READ,)
    """What it may do: read, deploy, admin."""


class Access(Options, frozen=True, kw_only=True):
    """Who may use the API over TCP."""

    tokens: tuple[Token, ...] = ()
    """Bearer tokens; also what logs a browser in."""


class GitHub(Options, frozen=True, kw_only=True):
    """What connects the agent with GitHub."""

    webhook_secrets: tuple[SecretRef, ...] = ()
    """The webhook's secret; two of them while it is being rotated. Without one, /webhook refuses everything."""


class Source(Options, frozen=True, kw_only=True):
    """Where a service's revisions come from."""

    repository: str
    """A URL (https, ssh) or a path."""
    github: str | None = None
    """Whose deliveries count, `owner/name`; read off the URL if it can be."""
    branch: str = "main"
    """The branch that is deployed."""
    poll: Annotated[Seconds, between(0, DAY)] = Seconds(300)
    """How often the branch's tip is asked for, for pushes whose delivery was lost; `0s` never, else at least `10s`."""
    paths: tuple[Text, ...] = ()
    """Only changes of these paths deploy by themselves: `src/**`, `requirements.txt`, `docs/`, `!docs/drafts/`."""
    key: KeyRef | None = None
    """With ssh: the deploy key, a private key without a passphrase. Without it the user's own keys are tried."""
    host_keys: tuple[str, ...] = ()
    """With ssh: the host's public keys, such as `ssh-ed25519 AAAA...`; no others are accepted then. Without them, what
    known_hosts says counts."""
    token: SecretRef | None = None
    """With https: a token that may read the repository."""
    submodules: bool = False
    """Whether submodules are filled; otherwise they are empty directories. They must lie on the repository's host."""
    lfs: bool = False
    """Whether Git LFS pointers are replaced by their files; needs the program git-lfs."""
    max_size: Annotated[Bytes, between(1 << 20, 1 << 50)] = Bytes(4 << 30)
    """How much of the disk the mirror of the repository may take, and its submodules together: a fetch that takes more
    is ended."""


class Reuse(Options, frozen=True, kw_only=True):
    """What a new release takes over from an earlier one instead of building it anew.

    If the contents of `key`, the commands and their environment are what they were for a confirmed release that is
    still on the disk, each of `paths` becomes a link into the release that built it, and `commands` are not run.
    Nothing may write there later: not the service, not `always`. An environment into which the project itself was
    installed (`pip install -e .`, `uv sync`) would run the earlier release's code: install dependencies only.
    """

    key: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """Files of the repository that say what is built, such as a lock file; one that is missing counts as absent."""
    paths: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """What the commands make, relative to the release; nothing of it may stand in the repository or be shared."""


class Build(Options, frozen=True, kw_only=True):
    """What is done in a new release before it runs."""

    commands: tuple[Text, ...] = ()
    """Shell commands, run in the new release one after the other."""
    always: tuple[Text, ...] = ()
    """Commands that run after those, also in a release that reuses what an earlier one built."""
    timeout: Annotated[Seconds, between(0.1, DAY)] = Seconds(600)
    """The deadline of all of them together; those of `migrate` have as much again."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added, for the build alone, to `runtime.environment`."""
    reuse: Reuse | None = None
    """What is taken over from an earlier release while its key is unchanged; by default nothing."""
    nice: Annotated[int, Meta(ge=0, le=19)] = 10
    """How much processor time the build leaves to others: 0 (as the agent) to 19 (only what nobody else wants)."""
    io: Literal["idle", "low", "normal"] = "low"
    """The same for the disk; `idle` waits until nobody else uses it."""
    memory: Annotated[Bytes, between(16 << 20, 1 << 50)] | None = None
    """The address space that each program of the build may have, which is more than it uses (Node.js takes many
    gigabytes); by default there is no limit."""
    isolated: bool | None = None
    """Whether the commands run as user `homeport-build` in a unit of their own, and those of `migrate` as the user of
    the service's unit. By default they do under the installed unit, where `homeport install` prepared it."""


class Freeze(Options, frozen=True, kw_only=True):
    """A window in which nothing is deployed by itself; what comes meanwhile waits for its end. A person may deploy."""

    begin: str = field(name="from")
    """Its first minute, in local time: `22:00` for every day, `fri 17:00` for one."""
    end: str = field(name="to")
    """When it ends, written like `from`; an earlier time is one of the next day or week."""


class Deploy(Options, frozen=True, kw_only=True):
    """When and how a revision becomes a release."""

    on: tuple[Literal["push", "workflow_run", "release"], ...] = ("push",)
    """Which GitHub events deploy: a push the branch's tip, a green workflow_run exactly its commit, a published
    release the commit of its tag. What is deployed always lies on `source.branch`."""
    workflow: Text | None = None
    """The workflow whose green runs deploy: its file below `.github/workflows` (`ci.yml`), or its name. Needed with
    workflow_run."""
    workflow_events: Annotated[
        tuple[Literal["push", "workflow_dispatch", "schedule"], ...], Meta(min_length=1)
    ] = ("push",)
    """What may have made the workflow run. Runs for pull requests never deploy."""
    prereleases: bool = False
    """Whether a release that is marked as a pre-release deploys, too."""
    freeze: tuple[Freeze, ...] = ()
    """When nothing is deployed by itself."""
    strategy: Literal["restart", "blue-green"] = "restart"
    """How the service changes over. `restart`: the old version ends, then the new one starts. `blue-green`: the new one
    is started and proven beside the old one, then nginx sends the users to it; see `blue_green`."""
    build: Build = field(default_factory=Build)
    """What is done in a new release before it runs."""
    migrate: tuple[Text, ...] = ()
    """Shell commands that bring the data to the new version's schema, run in the new release after the backup, while
    the old version still serves; they must be safe to run twice. If one fails, nothing is switched."""
    shared: tuple[str, ...] = ()
    """Paths that are kept across releases: they lie in `shared/` and are linked into each release."""
    keep_releases: Annotated[int, Meta(ge=0, le=1000)] = 5
    """How many releases stay on the disk besides the ones that are needed."""


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


class ProbeOptions(Options, frozen=True, kw_only=True):
    """What every probe can be told."""

    when: Literal["always", "deploy", "live"] = "always"
    """`deploy`: asked only while a new version proves itself. `live`: only afterwards, by the monitor."""
    every: Annotated[Seconds, between(0, DAY)] = Seconds(0)
    """For the monitor: so long a good answer counts before it is asked again. `0s`: it is asked at every look."""


Scalar = str | int | float | bool | None
Port = Annotated[int, Meta(ge=1, le=65535)]


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


class BlueGreen(Options, frozen=True, kw_only=True):
    """Two instances of the service's unit, `@blue` and `@green`, of which one serves behind nginx.

    A new version is started in the other one, which finds its port as PORT in its environment. When it has proven
    itself nginx's upstream is swapped, and what users are told is looked at through nginx. The old one ends when nobody
    is connected to it any more. Where the memory does not hold two copies, it is restarted instead.
    """

    ports: tuple[Port, Port]
    """Of blue and of green, on 127.0.0.1. In the probes the first one stands for whichever instance is asked."""
    url: str
    """How users reach the service through nginx. It must answer after the swap, three times in a row: anything but a
    5xx."""
    verify_tls: bool = True
    """Whether the certificate of an https address must be valid for its name."""
    drain: Annotated[Seconds, between(0, HOUR)] = Seconds(30)
    """How long the old instance may go on with what it has begun, such as downloads and WebSockets, after the swap."""
    memory: Annotated[Bytes, between(1 << 20, 1 << 50)] | None = None
    """What a second copy takes; by default as much as the one that serves takes just then."""


class Rollback(Options, frozen=True, kw_only=True):
    """When it goes back by itself after the deployment, and the guard against rollback loops."""

    max_per_hour: Annotated[int, Meta(ge=1, le=1000)] = 2
    """So many automatic rollbacks within an hour hold the service until a person resumes it."""
    on_workflow: Text | None = None
    """A workflow that tests what is deployed: its file below `.github/workflows` (`e2e.yml`), or its name. If a run of
    it on `source.branch` fails or times out while exactly its commit is live, the service goes back to the last good
    release before. Runs for pull requests and of forks do not count. By default no workflow does this."""
    probation: Annotated[Seconds, between(0, DAY)] = Seconds(0)
    """If a version falls ill within this time after its deployment, the service goes back to the last good release
    before, once; it is not started again. Later, and after that, `health.restarts` says what is done. `0s`: there is
    no probation."""
    restore_data: Literal["never", "if-migrated"] = "never"
    """`if-migrated`: an automatic rollback of a version that began its `migrate` commands also brings back the data
    of the backup before it. What was written since is no longer served, but kept beside it."""


class FilesSource(Options, frozen=True, kw_only=True, tag_field="kind", tag="files"):
    """Files and directories; SQLite databases among them are copied by SQLite's own means."""

    paths: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Relative to the service's directory."""


class SqliteSource(Options, frozen=True, kw_only=True, tag_field="kind", tag="sqlite"):
    """One SQLite database, copied consistently while it is being written."""

    path: str
    """Relative to the service's directory."""


class ArchiveStore(Options, frozen=True, kw_only=True, tag_field="kind", tag="archive"):
    """The agent's own store below `state_dir`: what did not change costs no new space."""


class Keep(Options, frozen=True, kw_only=True):
    """Which backups stay. A backup stays if one of these rules keeps it. Whatever they say, what a rollback might need
    stays: the backups that were made before the live release and before the one to go back to."""

    last: Annotated[int, Meta(ge=1, le=10_000)] = 5
    """The newest ones; whatever their age, never fewer good ones are left."""
    daily: Annotated[int, Meta(ge=0, le=10_000)] = 7
    """The newest of each of so many days (UTC) that have one."""
    weekly: Annotated[int, Meta(ge=0, le=10_000)] = 4
    """The newest of each of so many weeks."""
    monthly: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """The newest of each of so many months."""
    max_age: Annotated[Seconds, between(DAY, 36500 * DAY)] = Seconds(30 * DAY)
    """What is older than the newest one by more than this goes, except for the `last` ones."""


class BackupOptions(Options, frozen=True, kw_only=True):
    """What is saved before each switch."""

    before_deploy: Literal["required", "off"] = "required"
    """`off` deploys without a backup."""
    sources: tuple[FilesSource | SqliteSource, ...] | None = None
    """What is saved; by default the shared paths."""
    store: ArchiveStore = field(default_factory=ArchiveStore)
    """Where to."""
    keep: Keep = field(default_factory=Keep)
    """Which backups stay."""


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


class Monitor(Options, frozen=True, kw_only=True):
    """Watching outside of deployments."""

    every: Annotated[Seconds, between(0.1, DAY)] = Seconds(15)
    """How often each live service is asked."""


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
