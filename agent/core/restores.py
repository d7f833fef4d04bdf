"""Restores in place: their nouns, and which paths one swaps. Pure.

A restore is laid out aside, then swapped in by renames while the service stands still. Its states are in the journal:

    staging -> swapping -> starting -> done                     (done at once if nothing is live)
    swapping or starting -> putting_back -> put_back            (it did not come up with this data)
    staging or putting_back -> failed                           (refused; or the disk refuses)

What was cut off while `staging` is dropped; from `swapping` on a restore is always finished.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from agent.core.model import BackupMember


class Standing(StrEnum):
    """Where a restore stands."""

    STAGING = "staging"
    SWAPPING = "swapping"
    STARTING = "starting"
    PUTTING_BACK = "putting_back"
    DONE = "done"
    PUT_BACK = "put_back"
    FAILED = "failed"


RESTORED = frozenset({Standing.DONE, Standing.PUT_BACK, Standing.FAILED})
"""States that nothing leaves."""


class Swap(Struct, frozen=True, kw_only=True):
    """One path that is replaced whole. All three are absolute, and lie on one file system."""

    path: str
    """Where the data lies, links resolved."""
    staged: str
    """What takes its place; once it is in place, nothing stands here."""
    kept: str
    """Where what was replaced is kept."""
    present: bool = True
    """False: the backup says that nothing was there; `staged` is only a mark."""
    beside: tuple[str, ...] = ()
    """What belongs to it, as endings of its name: a database's log and journal."""


class Restore(Struct, frozen=True, kw_only=True):
    """One restore of a backup in the place of a service's data."""

    id: str
    service: str
    backup: str
    state: Standing
    at: datetime
    finished_at: datetime | None = None
    deployment: str | None = None
    """The deployment whose rollback it is part of."""
    actor: str | None = None
    saved: str | None = None
    """The backup that was made of the data before."""
    reason: str = ""
    detail: str = ""
    files: int = 0
    bytes: int = 0
    kept: bool = False
    """Whether what it replaced is still there."""
    swaps: tuple[Swap, ...] = ()


class Part(Struct, frozen=True, kw_only=True):
    """A path of a backup, or what stands there now, in numbers."""

    path: str
    files: int = 0
    bytes: int = 0


class Contents(Struct, frozen=True, kw_only=True):
    """What a backup holds: each path that a restore swaps, and the rows of each table of each database."""

    parts: tuple[Part, ...]
    tables: dict[str, dict[str, int]]

    @property
    def files(self) -> int:
        """Of all paths."""
        return sum(part.files for part in self.parts)

    @property
    def bytes(self) -> int:
        """Of all paths."""
        return sum(part.bytes for part in self.parts)


class Replaced(Struct, frozen=True, kw_only=True):
    """A path that a restore would replace: what would be there, and what is."""

    path: str
    files: int
    bytes: int
    files_now: int
    bytes_now: int


class Counted(Struct, frozen=True, kw_only=True):
    """A database that a restore would replace: the rows of its tables then, and now (null: it does not read)."""

    path: str
    then: dict[str, int]
    now: dict[str, int] | None


class Preview(Struct, frozen=True, kw_only=True):
    """What a restore would do. Nothing was changed."""

    backup: str
    service: str
    at: datetime
    paths: tuple[Replaced, ...]
    databases: tuple[Counted, ...]


def swapped(members: Iterable[BackupMember]) -> dict[str, bool]:
    """The paths that restoring these members swaps, each whole, and whether the backup has anything there.

    What lies inside of another member's path comes with it.
    """
    sources = {posixpath.normpath(member.source): member.state != "absent" for member in members}
    tops = [path for path in sources if not any(_inside(path, other) for other in sources)]
    return {
        top: any(there for path, there in sources.items() if path == top or _inside(path, top))
        for top in tops
    }


def removed(members: Iterable[BackupMember], configured: Iterable[str]) -> Sequence[str]:
    """The sources that a backup has something of, and that the configuration does not name any more."""
    known = {posixpath.normpath(source) for source in configured}
    return [
        member.source
        for member in members
        if member.state != "absent" and posixpath.normpath(member.source) not in known
    ]


def part_of(path: str, parts: Mapping[str, object]) -> str | None:
    """Which of the swapped paths a backup's file belongs to; None if to none."""
    return next((part for part in parts if part in ("", path) or _inside(path, part)), None)


def _inside(path: str, other: str) -> bool:
    return path.startswith(f"{other}/")
