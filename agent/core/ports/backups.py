"""Where data lies, where it is kept, and how it comes back. Its rules: `core.ports`."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.core.model import Backup, BackupFile, BackupMember, Need
from agent.core.restores import Contents, Part, Swap


class BackupSource(Protocol):
    """Where a backup's bytes come from. Used in a worker thread: its methods block and are no coroutines."""

    source: str
    """Its name: the path as it was configured."""

    def estimate(self, stopped: Callable[[], bool]) -> Need:
        """What it will take from the disk, roughly. What cannot be read counts nothing: `collect` says so.

        Asks `stopped` now and then, and raises backup-failed.
        """

    def collect(self, sink: "BlobSink", known: frozenset[str]) -> BackupMember:
        """Hands every piece and every file to `sink`, and says what there was.

        `known`: names of the sources that the service's last backup had. Raises backup-source-gone if one that
        was there is gone, backup-source-unreadable, backup-source-damaged, disk-full, backup-failed.
        """


class BlobSink(Protocol):
    """Takes a source's pieces and files. Blocking; used in a worker thread."""

    scratch: Path
    """A directory of the store for temporary copies; a power cut's leftovers in it are swept."""

    def stopped(self) -> bool:
        """Whether the backup was cancelled. Work that does not `put` asks several times a second, and raises."""

    def put(self, data: bytes) -> str:
        """Stores a piece (at most 4 MiB) under its SHA-256 (hex), compressed; what is there already costs nothing."""

    def record(self, file: BackupFile) -> None:
        """Notes one file, directory or link, in the order in which a restore makes them."""


class BackupStore(Protocol):
    """Backups of one or more services in one place. Every method can be interrupted by a power cut."""

    async def create(
        self,
        *,
        id: str,
        service: str,
        at: datetime,
        sources: Sequence[BackupSource],
        deployment: str | None,
        revision: str | None,
    ) -> Backup:
        """Collects all sources and commits the manifest, durable; state `unverified`, or `partial`.

        Raises what the sources raise, disk-full, disk-failed; Unavailable backup-busy if another process is at it.
        """

    async def verify(self, id: str, digest: str = "") -> Backup:
        """Reads every byte back from the device (not from the page cache) and compares; state ok, partial or bad.

        `digest`: what `create` returned; a manifest that was edited since is bad. Raises backup-unknown.
        """

    async def begun(self) -> bool:
        """Whether anything was ever kept here. False also where the store's disk is not mounted: whoever knows of
        backups must not begin anew then."""

    async def ids(self) -> frozenset[str]:
        """Every backup that has a manifest. Quick: it reads names only. Leftovers of interrupted writes are not
        among them."""

    async def look(self, id: str) -> Backup:
        """What a backup's manifest says: unverified or partial; bad if it does not read. Raises backup-unknown."""

    def stream(self, id: str, digest: str = "") -> AsyncGenerator[bytes, None]:
        """The backup as a tar stream (PAX), for a client that writes it elsewhere. Each byte is checked on the way.

        Raises backup-unknown or backup-bad, at the latest instead of the damaged bytes: a stream that ends is whole.
        """

    async def contents(self, id: str, digest: str, parts: Sequence[str]) -> Contents:
        """What a backup holds of these paths, which together are all of it. Raises backup-unknown, backup-bad."""

    async def lay_out(self, id: str, digest: str, targets: Mapping[str, Path]) -> Contents:
        """Writes each path of a backup to its target, which does not exist in a directory that is ours alone.

        When it returns, everything is on the device, was read back, and has the hashes and rows of the manifest.
        Raises restore-place before a byte is written if there is too little room; backup-unknown, backup-bad,
        disk-full, disk-failed. What was written of it then is the caller's to remove.
        """

    async def rehearse(self, id: str, digest: str) -> Contents:
        """The same into a scratch directory of the store, which is gone when this returns."""

    async def forget(self, ids: Sequence[str]) -> None:
        """Makes backups of one service not exist any more; durable. What is not there is fine. Their space comes back
        with `reclaim`, also after a power cut. Raises Unavailable backup-busy if another process is at it."""

    async def reclaim(self, service: str) -> int:
        """Gives back the space of what no backup needs; returns bytes. Does nothing unless something was forgotten.

        It rewrites a bounded amount at a time: what is left comes with the next call. Raises Unavailable backup-busy.
        """

    async def sweep(self) -> int:
        """Removes what interrupted writes and rehearsals left behind; returns how many. Quick: it reads names only.
        Called at start, before anything else."""


class Place(Protocol):
    """Where one service's data lies, for a restore in place. Nothing runs there while `swap` and `put_back` do.

    The swaps are planned once; the other methods do as they say, also when they are called again after a cut.
    """

    async def plan(
        self, paths: Mapping[str, bool], *, databases: Collection[str], id: str, at: datetime
    ) -> tuple[Swap, ...]:
        """A swap for each of the paths, in order; the value says whether the backup has anything there, `databases`
        are those of the paths that are one. Changes nothing. Raises restore-place."""

    async def prepare(self, swaps: Sequence[Swap]) -> None:
        """Makes the directories, empty and ours alone, in which the backup is laid out. Raises disk-full and so on."""

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        """What is staged takes the place of what is there, which is kept: whether there was anything. Readers never
        see a half of a path."""

    async def put_back(self, swaps: Sequence[Swap]) -> None:
        """What is kept takes its place again, however far `swap` came."""

    async def discard(self, swaps: Sequence[Swap]) -> None:
        """Removes what is staged, and the directories for it."""

    async def forget(self, swaps: Sequence[Swap]) -> None:
        """Removes what is kept."""

    async def sizes(self, paths: Sequence[str]) -> Sequence[Part]:
        """What stands at these paths now, roughly: what cannot be read counts nothing."""

    async def rows(self, database: str) -> dict[str, int] | None:
        """The rows of each table of a live database; None if it is not there or does not read."""
