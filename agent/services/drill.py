"""Restore drills: a backup that nobody ever restored is a hope (R-BK-8).

The newest good backup is verified, restored into a scratch directory, read back and compared file by file, each
database by its rows. What was proven, and how long it took, is recorded; a service's data is not touched.
"""

import asyncio
from collections.abc import Sequence

from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Backup, Proof
from agent.core.ports import BackupStore, Clock
from agent.services.backup import Backups, Readers
from agent.store.restores import RestoreRows

DRILLS = 1
"""At once, over all services; see `services.backup`."""


class Drills:
    """All services' drills."""

    def __init__(
        self, *, store: BackupStore, backups: Backups, rows: RestoreRows, readers: Readers, clock: Clock
    ) -> None:
        self._store = store
        self._backups = backups
        self._rows = rows
        self._readers = readers
        self._clock = clock
        self._drills = asyncio.Semaphore(DRILLS)

    async def drill(self, service: str) -> Proof:
        """Proves the service's newest good backup. Raises StepFailed backup-unknown (there is none), backup-bad,
        restore-place (too little room), disk-full; Unavailable backup-busy."""
        if self._drills.locked():
            raise Unavailable("backup-busy", "another drill is going on")
        async with self._drills:
            return await self._drill(_newest_good(service, await self._backups.list(service)))

    async def _drill(self, backup: Backup) -> Proof:
        began = self._clock.monotonic()
        verified = await self._backups.verify(backup.id)
        if verified.state != "ok":
            raise StepFailed("backup-bad", f"backup {backup.id} is {verified.state}: {verified.reason}")
        with self._readers.reading(backup.service):
            held = await self._store.rehearse(backup.id, backup.digest)
        proof = Proof(
            id=backup.id,
            at=self._clock.now(),
            seconds=round(self._clock.monotonic() - began, 3),
            files=held.files,
            bytes=held.bytes,
            tables=held.tables,
        )
        await self._rows.prove(backup.service, proof)
        return proof


def _newest_good(service: str, backups: Sequence[Backup]) -> Backup:
    for backup in backups:
        if backup.state in ("ok", "unverified"):
            return backup
    raise StepFailed("backup-unknown", f"{service} has no good backup")
