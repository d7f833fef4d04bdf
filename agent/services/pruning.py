"""Old backups go by the rules of `backup.keep`, and their space comes back.

After each backup that a person made, after each deployment, and when somebody asks. The manifests go first, then the
rows, then what no manifest needs: cut off anywhere, every backup that is listed still has all of its data (F14).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from agent.core.errors import StepFailed, Unavailable
from agent.core.guard import fallbacks
from agent.core.model import Backup
from agent.core.ports import BackupStore, Clock, Place
from agent.core.restores import Restore, Standing
from agent.core.retention import outdated
from agent.core.settings import Keep
from agent.services.backup import Readers
from agent.store.backups import BackupRows
from agent.store.journal import Journal
from agent.store.restores import RestoreRows
from agent.store.services import ServiceRows

log = logging.getLogger(__name__)

PRUNINGS = 1
"""At once, over all services; see `services.backup`."""
COPY_AGE = timedelta(days=1)
"""So long stays, whoever prunes, what a restore replaced."""


class Pruned(Struct, frozen=True, kw_only=True):
    """What went, or would go: backups, and the paths of data that an earlier restore replaced."""

    service: str
    backups: tuple[Backup, ...]
    copies: tuple[str, ...]
    freed_bytes: int
    dry_run: bool


class Pruning:
    """All services' old backups."""

    def __init__(
        self,
        *,
        store: BackupStore,
        rows: BackupRows,
        restores: RestoreRows,
        journal: Journal,
        services: ServiceRows,
        keep: Mapping[str, Keep],
        places: Mapping[str, Place],
        locks: Mapping[str, asyncio.Lock],
        readers: Readers,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rows = rows
        self._restores = restores
        self._journal = journal
        self._services = services
        self._keep = keep
        self._places = places
        self._locks = locks
        self._readers = readers
        self._clock = clock
        self._prunings = asyncio.Semaphore(PRUNINGS)
        self._began = clock.monotonic()
        self._seen: dict[str, float] = {}

    async def prune(self, service: str, *, dry_run: bool = False) -> Pruned:
        """Removes what the rules do not keep. Raises Unavailable backup-busy; StepFailed prune-refused, backup-bad
        (space stays taken while a backup's manifest does not read), disk-failed."""
        lock = self._locks[service]
        if lock.locked() or self._prunings.locked():
            raise Unavailable("backup-busy", f"{service} is being deployed, backed up or pruned")
        async with lock, self._prunings:
            old = await self._outdated(service)
            copies = await self._old_copies(service)
            freed = 0
            if not dry_run:
                freed = await self._remove(service, old)
                for restore in copies:
                    await self._forget_copy(restore)
        paths = tuple(swap.kept for restore in copies for swap in restore.swaps)
        return Pruned(service=service, backups=tuple(old), copies=paths, freed_bytes=freed, dry_run=dry_run)

    async def tidy(self, service: str) -> None:
        """The same for the backups, while the caller holds the service's lock. Whatever goes wrong here costs space,
        not the caller's work."""
        try:
            async with self._prunings:
                await self._remove(service, await self._outdated(service))
        except (StepFailed, Unavailable) as problem:
            log.warning("%s: old backups stay for now: %s", service, problem)

    async def keep_newest_copy(self, service: str) -> None:
        """After a restore: what earlier ones replaced goes."""
        copies = await self._copies(service)
        for restore in copies[:1]:
            self._seen[restore.id] = self._clock.monotonic()
        for restore in copies[1:]:
            await self._forget_copy(restore)

    async def _outdated(self, service: str) -> Sequence[Backup]:
        backups = await self._rows.rows(service)
        old = outdated(backups, self._clock.now(), self._keep[service], await self._needed(service))
        if old is None:
            raise StepFailed("prune-refused", f"the clock is behind the newest backup of {service}")
        return old

    async def _needed(self, service: str) -> frozenset[str]:
        live = await self._services.live(service)
        left = live.release if live else None
        back = fallbacks(await self._journal.releases(service), left=left)[:1]
        return await self._rows.needed(
            service, {name for name in (left, *(each.name for each in back)) if name}
        )

    async def _remove(self, service: str, old: Sequence[Backup]) -> int:
        with self._readers.removing(service):
            if not await self._store.begun():
                return 0  # its disk is not there: nothing is known to be old
            await self._store.forget([backup.id for backup in old])
            for backup in old:
                await self._rows.forget(backup.id)
                log.info("%s: backup %s was removed", service, backup.id)
            return await self._store.reclaim(service)

    async def _copies(self, service: str) -> Sequence[Restore]:
        """Restores whose replaced data is still there, newest first. One that failed is not among them: what it kept
        may be all that there is."""
        every = await self._restores.of(service)
        return [restore for restore in every if restore.kept and restore.state is Standing.DONE]

    async def _old_copies(self, service: str) -> Sequence[Restore]:
        """By the wall clock, and by what this agent has seen pass since: a clock that jumped makes nothing old."""
        now, passed = self._clock.now(), self._clock.monotonic() - COPY_AGE.total_seconds()
        return [
            restore
            for restore in await self._copies(service)
            if restore.finished_at is not None
            and now - restore.finished_at > COPY_AGE
            and self._seen.get(restore.id, self._began) < passed
        ]

    async def _forget_copy(self, restore: Restore) -> None:
        """The files first: a row without them is harmless."""
        await self._places[restore.service].forget(restore.swaps)
        await self._restores.advance(restore, replace(restore, kept=False))
        self._seen.pop(restore.id, None)
