"""The nouns of the house: plain values that every floor may hold.

They are immutable, they know no I/O, and they are also what the API answers: `msgspec.json.encode` of a
`Deployment` is the JSON that a client sees. Times are aware UTC; durations are seconds; sizes are bytes.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


class State(StrEnum):
    """Where a deployment stands. The table of transitions is `core.pipeline`."""

    QUEUED = "queued"
    FETCHING = "fetching"
    BUILDING = "building"
    BACKING_UP = "backing_up"
    SWITCHING = "switching"
    VERIFYING = "verifying"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    BROKEN = "broken"


class Fault(StrEnum):
    """Whose fault a failure is. Only the commit's own failures quarantine it."""

    COMMIT = "commit"
    WORLD = "world"
    INTERRUPTED = "interrupted"


class Scope(StrEnum):
    """What a caller may do. `admin` includes `deploy`, `deploy` includes `read`."""

    READ = "read"
    DEPLOY = "deploy"
    ADMIN = "admin"


class Trigger(Struct, frozen=True, kw_only=True):
    """What asked for a deployment: `kind` is webhook, manual, poll or schedule."""

    kind: str
    event: str | None = None
    delivery: str | None = None
    actor: str | None = None


class Step(Struct, frozen=True, kw_only=True):
    """One state of a deployment's way, as it went: `state` is running, done, failed or interrupted."""

    name: State
    state: str
    started_at: datetime
    finished_at: datetime | None = None
    detail: str = ""


class Outage(Struct, frozen=True, kw_only=True):
    """What was seen of a service while it was switched, by asking it over and over."""

    seconds: float
    """Without an answer, all together."""
    longest_wait: float
    """Seconds that the slowest of the answers took: requests may have to wait instead of failing."""
    asked: int
    failed: int
    """So many of them got no answer."""


class Deployment(Struct, frozen=True, kw_only=True):
    """One run of the pipeline. `revision` is null until a branch or tag was resolved."""

    id: str
    service: str
    revision: str | None
    previous: str | None
    state: State
    reason: str
    hint: str
    trigger: Trigger
    steps: tuple[Step, ...] = ()
    created_at: datetime
    finished_at: datetime | None
    requested: str | None = None
    """What a person asked for (sha, branch or tag); null: the tip of the configured branch."""
    target: str | None = None
    """Of a rollback that somebody asked for: the release to go back to, or "" for the one before what is live."""
    before: str | None = None
    """The commit that the branch named before the push, as the delivery says."""
    release: str | None = None
    """What it built; of a rollback that was asked for, where it went: named before anything is touched."""
    backup: str | None = None
    force: bool = False
    person: bool = False
    """A person asked for it, first or as well: no path filter, no `[skip deploy]` and no freeze stops it."""
    fault: Fault | None = None
    interruptions: int = 0
    """How often it was cut off; counted anew from the switch on."""
    config_hash: str = ""
    migrated: bool = False
    """Its `migrate` commands were begun: the data may be what only the new version understands."""
    outage: Outage | None = None
    """What its switch, and its way back, cost the service's users; null: nothing was switched, no probe asks over the
    network, it was the first one, or it was cut off."""


RELEASE_MARKER = ".homeport-release.json"
"""What makes a directory a release."""
RELEASE_ENVIRONMENT = ".homeport-environment"
"""What a release's unit is told of it: the file that its `EnvironmentFile=` names."""


class Release(Struct, frozen=True, kw_only=True):
    """A built revision on the disk: `name` is `<sequence>-<sha7>`, a directory below `releases/`."""

    name: str
    service: str
    revision: str
    config_hash: str = ""
    confirmed_at: datetime | None = None
    confirmation: int = 0
    """The number of its last confirmation: they are ordered by it, because clocks jump."""
    quarantined: bool = False
    """Its revision is in quarantine: nothing goes back to it by itself."""
    recipe: str = ""
    """A digest of what its build was made from (`core.reuse`); "": it takes part in no reuse."""
    built_by: str = ""
    """The release that built what this one links to; "": it built its own."""


class Live(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a service serves now."""

    revision: str
    release: str
    since: datetime
    proven: bool = True
    """False after a rollback that failed: it is what should run, but it did not come up."""


class Hold(Struct, frozen=True, kw_only=True):
    """Automatic deployments of a service are stopped until a person resumes it."""

    since: datetime
    reason: str
    actor: str | None = None


class Quarantine(Struct, frozen=True, kw_only=True):
    """A revision that failed through its own fault with this configuration."""

    revision: str
    config_hash: str
    reason: str
    deployment: str
    at: datetime


class Delivery(Struct, frozen=True, kw_only=True):
    """One authenticated webhook request. `digest` (SHA-256 of the signed bytes, hex) is its identity.

    `id` is the GUID of the unsigned header: recorded and shown, never trusted.
    """

    digest: str
    id: str
    event: str
    received_at: datetime
    secret: int = 0
    """Which of the configured secrets matched, counted from 0."""
    repository: str = ""
    ref: str = ""
    revision: str | None = None
    sender: str = ""
    decision: str = ""
    reason: str = ""
    deployments: tuple[str, ...] = ()


class Event(Struct, frozen=True, kw_only=True):
    """A line of the append-only event log. `name` is dotted: deployment.succeeded, service.held ..."""

    id: int
    at: datetime
    name: str
    service: str | None = None
    deployment: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


class BackupMember(Struct, frozen=True, kw_only=True):
    """A source of a backup, as recorded: `state` is ok, absent or partial."""

    source: str
    kind: str
    state: str
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    """Sockets, FIFOs and devices: nothing that a backup could hold."""


class BackupFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of a backup, a line of its manifest. `kind` is file, sqlite, directory or symlink.

    Names keep every byte that a file system allows: see `adapters.backup.names`.
    """

    path: str
    """Below the service's directory."""
    source: str
    kind: str
    mode: int
    mtime: int
    """Nanoseconds since 1970."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    sha256: str = ""
    chunks: tuple[str, ...] = ()
    """Addresses of the pieces in order; empty if there is one piece, which then has the file's own SHA-256."""
    listed: bool = False
    """The chunks are themselves lists: 32 bytes of SHA-256 for each piece."""
    target: str = ""
    """Where a symlink points."""
    tables: dict[str, int] | None = None
    """Rows of each table of a database, for a restore drill to compare."""
    changed: bool = False
    """It changed while it was read, twice: what is stored is a mixture."""


class Need(Struct, frozen=True, kw_only=True):
    """What a backup's source will take: bytes that it reads, and the largest temporary copy among them."""

    bytes: int = 0
    scratch: int = 0


class Backup(Struct, frozen=True, kw_only=True):
    """A backup that exists: its manifest is on the device. `state` is ok, partial, bad or unverified."""

    id: str
    service: str
    at: datetime
    state: str
    bytes: int
    """What the sources held."""
    stored_bytes: int
    """What this backup added to the store."""
    deployment: str | None = None
    revision: str | None = None
    verified_at: datetime | None = None
    members: tuple[BackupMember, ...] = ()
    reason: str = ""
    digest: str = ""
    """SHA-256 (hex) of the manifest: whoever edits it later is found out."""


class Proof(Struct, frozen=True, kw_only=True):
    """A restore drill that succeeded: a backup was restored elsewhere, read back and compared, file by file."""

    id: str
    """The backup's."""
    at: datetime
    seconds: float
    files: int
    bytes: int
    tables: dict[str, dict[str, int]]
    """Rows of each table, of each database by its path."""


class Probed(Struct, frozen=True, kw_only=True):
    """What one probe saw. `detail` is a sentence for people."""

    healthy: bool
    detail: str
    seconds: float = 0.0


class Launch(Struct, frozen=True, kw_only=True):
    """What a runtime starts. `directory` is the release's real path, absolute."""

    service: str
    release: str
    revision: str
    directory: str


class Running(Struct, frozen=True, kw_only=True):
    """What a runtime found alive. `instance` changes whenever the process is another one."""

    release: str
    instance: str
    pid: int | None = None


class Polled(Struct, frozen=True, kw_only=True):
    """What the last poll of a service found. `note` is a sentence: what came of it, or why nothing did."""

    at: datetime
    tip: str | None
    note: str


class ServiceStatus(Struct, frozen=True, kw_only=True):
    """One service in `/status`."""

    name: str | UnsetType = UNSET
    live: Live | None
    last: Deployment | None
    current: Deployment | None
    health: str
    """healthy, unhealthy, held (healthy, but held), none (before the first deployment) or unknown."""
    health_detail: str = ""
    hold: Hold | None = None
    quarantine: tuple[Quarantine, ...] = ()
    last_backup: Backup | None = None
    last_proven_restore: Proof | None = None
    frozen_until: datetime | None = None
    """Until then automatic deployments wait (`deploy.freeze`)."""
    poll: Polled | None = None
    """Since the agent's start; null also where `source.poll` is off."""
