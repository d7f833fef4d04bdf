"""Restores in place: a backup takes the place of a service's data, or everything is as it was (R-BK-7).

The order: the backup is verified; it is laid out beside the data, read back and compared; the present data is backed
up; the journal says `swapping`; the service is stopped, the paths are swapped by renames, the service is started
again and watched by the rules of a deployment. If it does not come up, the data from before is put back.

The caller holds the service's lock, or is told that it is busy. Each state is committed before its work begins, and
each work looks for itself what is already done: a restore that was cut off is dropped if nothing was swapped yet, and
else finished by the next start, before anything new. What was replaced is kept beside its path.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace as changed

from agent.core.errors import HomeportError, StepFailed, Unavailable
from agent.core.model import Backup, Deployment
from agent.core.ports import BackupStore, Clock, Place
from agent.core.restores import (
    RESTORED,
    Counted,
    Preview,
    Replaced,
    Restore,
    Standing,
    Swap,
    removed,
    swapped,
)
from agent.core.text import clean
from agent.services.backup import Backups
from agent.services.pruning import Pruning
from agent.services.replace import finish
from agent.services.site import Site
from agent.services.swapping import Swapping
from agent.store.restores import RestoreRows
from agent.store.services import ServiceRows

log = logging.getLogger(__name__)

T = TypeVar("T")

RESTORES = 1
"""At once, over all services; see `services.backup`."""
_LOST = ("backup-source-gone", "backup-source-unreadable", "backup-source-damaged")


class Restores:
    """All services' restores. Also what a deployment's rollback asks to bring back the data."""

    def __init__(
        self,
        *,
        sites: Mapping[str, Site],
        places: Mapping[str, Place],
        sources: Mapping[str, Sequence[str]],
        store: BackupStore,
        backups: Backups,
        pruning: Pruning,
        rows: RestoreRows,
        services: ServiceRows,
        locks: Mapping[str, asyncio.Lock],
        clock: Clock,
    ) -> None:
        """`sources`: the names of each service's configured sources."""
        self._sites = sites
        self._places = places
        self._sources = sources
        self._store = store
        self._backups = backups
        self._rows = rows
        self._services = services
        self._locks = locks
        self._clock = clock
        self._pruning = pruning
        self._swapping = Swapping(
            sites=sites, places=places, pruning=pruning, rows=rows, services=services, clock=clock
        )
        self._restores = asyncio.Semaphore(RESTORES)

    # --- what a person asks for

    async def preview(self, id: str) -> Preview:
        """What `restore` would do. Changes nothing. Raises StepFailed backup-unknown, backup-bad, restore-refused."""
        backup = await self._backups.find(id)
        paths, place = self._paths(backup), self._places[backup.service]
        if self._restores.locked():
            raise Unavailable("backup-busy", "another backup is being restored")
        async with self._restores:
            held = await self._store.contents(id, backup.digest, tuple(paths))
            now = await place.sizes(tuple(paths))
            rows = [(path, then, await place.rows(path)) for path, then in held.tables.items()]
        return Preview(
            backup=id,
            service=backup.service,
            at=backup.at,
            paths=tuple(
                Replaced(
                    path=part.path, files=part.files, bytes=part.bytes,
                    files_now=there.files, bytes_now=there.bytes,
                )
                for part, there in zip(held.parts, now, strict=True)
            ),
            databases=tuple(Counted(path=path, then=then, now=counted) for path, then, counted in rows),
        )  # fmt: skip

    async def restore(self, id: str, *, actor: str, without_backup: bool = False) -> Restore:
        """To the end: `done`, or `put_back` because the service did not come up with this data.

        `without_backup`: goes on if the present data is lost or damaged, so that no backup of it can be made.
        Raises, and nothing was touched: Unavailable backup-busy; StepFailed backup-unknown, backup-bad,
        restore-refused, restore-place, restore-not-backed-up, disk-full and what a backup raises.
        """
        backup = await self._backups.find(id)
        self._paths(backup)
        lock = self._locks[backup.service]
        if lock.locked() or self._restores.locked():
            raise Unavailable("backup-busy", f"{backup.service} is being deployed, backed up or restored")
        async with lock, self._restores:
            if await self._rows.unfinished(backup.service):
                raise Unavailable("backup-busy", f"a restore of {backup.service} was cut off and goes on")
            verified = await self._backups.verify(id)
            if verified.state == "bad":
                raise StepFailed("backup-bad", f"backup {id} is damaged: {verified.reason}")
            restore = await self._stage(verified, actor=actor)
            try:
                saved = await self._save(backup.service, without_backup)
            except BaseException as failure:
                await self._drop(restore, failure)
                raise
            swapping = changed(restore, state=Standing.SWAPPING, saved=saved)
            ended = await self._swapping.carry(await self._swapping.advance(restore, swapping))
            await self._pruning.tidy(backup.service)
            return ended

    # --- what the rest of the agent asks for, the lock in its hands

    async def create_locked(
        self, service: str, *, deployment: str | None = None, revision: str | None = None
    ) -> Backup:
        """See `services.backup`: with `restore_locked` it is what a deployment needs of its data."""
        return await self._backups.create_locked(service, deployment=deployment, revision=revision)

    async def recover(self, service: str) -> None:
        """At the start of the lane: what was cut off is dropped or finished; leftovers go."""
        for restore in await self._rows.unfinished(service):
            if restore.deployment is not None:
                continue  # its rollback goes on with it
            log.warning("%s: restore %s was cut off while %s", service, restore.id, restore.state)
            if restore.state is Standing.STAGING:
                await self._drop(restore, StepFailed("interrupted", "the agent was stopped"))
            else:
                await self._swapping.carry(restore)
        for restore in (await self._rows.of(service))[:1]:
            if restore.state in RESTORED and restore.reason != "restore-failed":  # that is a person's now
                await self._swapping.quietly(self._places[service].discard(restore.swaps))

    async def restore_locked(self, deployment: Deployment) -> str:
        """In the rollback of a deployment whose migration had begun: if the configuration says so, stops the service
        and brings back the data of the backup before it. Returns a sentence about it, also if that was not possible:
        the old release must start all the same. Does nothing a second time."""
        backup = deployment.backup
        if self._sites[deployment.service].settings.rollback.restore_data == "never" or backup is None:
            return f"the schema was migrated; the backup from before: {backup or 'none'}"
        try:
            restore = await self._for_rollback(deployment, backup)
        except StepFailed as failure:
            log.error("%s %s: the data stays: %s", deployment.service, deployment.id, failure)
            return f"the data stays as it was migrated: {failure.message}; the backup from before: {backup}"
        if restore.state is not Standing.DONE:
            return f"the data stays as it was migrated: {restore.detail}; the backup from before: {backup}"
        return f"the data of backup {backup} was restored"

    async def _for_rollback(self, deployment: Deployment, backup: str) -> Restore:
        restore = await self._rows.of_deployment(deployment.id)
        if restore is not None and restore.state is Standing.STAGING:
            await self._drop(restore, StepFailed("interrupted", "the agent was stopped"))
            restore = None
        if restore is None or restore.state is Standing.FAILED:
            known = await self._backups.find(backup)
            self._paths(known)
            async with self._restores:
                staged = await self._stage(known, deployment=deployment.id)
            restore = await self._swapping.advance(staged, changed(staged, state=Standing.SWAPPING))
        return await self._swapping.carry(restore)

    # --- before the swap

    def _paths(self, backup: Backup) -> dict[str, bool]:
        """The paths that are swapped. Raises StepFailed restore-refused."""
        if backup.service not in self._sites:
            raise StepFailed("restore-refused", f"no service {backup.service} is configured")
        if lost := removed(backup.members, self._sources[backup.service]):
            raise StepFailed(
                "restore-refused", f"`backup.sources` does not have {clean(', '.join(lost))} any more"
            )
        if not (paths := swapped(backup.members)):
            raise StepFailed("restore-refused", f"backup {backup.id} holds nothing")
        return paths

    async def _stage(
        self, backup: Backup, *, actor: str | None = None, deployment: str | None = None
    ) -> Restore:
        """Lays the backup out beside the data. Whatever fails, nothing of it stays."""
        place, paths, at = self._places[backup.service], self._paths(backup), self._clock.now()
        held = await self._store.contents(backup.id, backup.digest, tuple(paths))
        identity = secrets.token_hex(6)
        swaps = await place.plan(paths, databases=frozenset(held.tables), id=identity, at=at)
        restore = await self._rows.begin(
            Restore(
                id=identity, service=backup.service, backup=backup.id, state=Standing.STAGING, at=at,
                actor=actor, deployment=deployment, files=held.files, bytes=held.bytes, swaps=swaps,
            )
        )  # fmt: skip
        try:
            await place.prepare(swaps)
            await self._store.lay_out(backup.id, backup.digest, _targets(paths, swaps))
        except BaseException as failure:
            await self._drop(restore, failure)
            raise
        return restore

    async def _save(self, service: str, without_backup: bool) -> str | None:
        live = await self._services.live(service)
        try:
            saved = await self._backups.create_locked(service, revision=live.revision if live else None)
        except StepFailed as failure:
            if failure.code not in _LOST:
                raise
            if not without_backup:
                text = f"the present data cannot be backed up: {failure.message}"
                raise StepFailed("restore-not-backed-up", text) from failure
            log.warning("%s: restoring without a backup of what is there: %s", service, failure)
            return None
        return saved.id

    async def _drop(self, restore: Restore, failure: BaseException) -> None:
        """Ends a restore of which nothing was swapped yet."""
        reason, detail = "interrupted", "it was cut off"
        if isinstance(failure, HomeportError):
            reason, detail = failure.code, clean(failure.message, 500)
        await finish(self._drop_now(restore, reason, detail))

    async def _drop_now(self, restore: Restore, reason: str, detail: str) -> None:
        await self._swapping.quietly(self._places[restore.service].discard(restore.swaps))
        failed = changed(restore, state=Standing.FAILED, reason=reason, detail=detail)
        await self._swapping.advance(restore, failed)


def _targets(paths: Mapping[str, bool], swaps: Sequence[Swap]) -> dict[str, Path]:
    return {path: Path(swap.staged) for path, swap in zip(paths, swaps, strict=True) if swap.present}
