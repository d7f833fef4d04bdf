"""What is saved, and what of it stays."""

from typing import Annotated, Literal

from msgspec import Meta, field

from agent.core.settings.basics import DAY, Options, Seconds, between


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
