"""Backups as the rest of the agent sees them: made, read back, listed, handed out.

- A backup counts when it was read back from the device and found whole; only then does it get its row. The
  manifest on the disk is the truth: `adopt` aligns the rows with it at every start.
- Deployment, backup and restore of one service exclude each other by the lock that its lane shares. A person who
  asks meanwhile is told; a deployment brings the lock along.
- A deployment stands on a whole backup or not at all: `partial` is a failure for it.
- Long work is bounded, in `system.threads` and in memory: two backups are written at once, a third waits in line.
  What people ask for beside them does not wait, it is told `backup-busy`: a second verification, a third download.
- Where backups are known and the store was never begun, its disk is missing: nothing is written, no row is dropped.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence, Set
from contextlib import aclosing, contextmanager
from datetime import datetime

import msgspec

from agent.core import patience
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Backup
from agent.core.ports import BackupSource, BackupStore, Clock
from agent.services.heartbeat import at_rest, within
from agent.store.backups import BackupRows

log = logging.getLogger(__name__)

WRITERS, VERIFICATIONS, STREAMS = 2, 1, 2
"""At once, over all services. With those of `services.restore`, `pruning` and `drill` they are `system.threads.LONG`,
so that none of those ever waits for another."""


async def _nothing(service: str) -> None:
    """No rules say which backups stay: all do."""
    del service


class Readers:
    """Keeps apart, service by service, who reads backups and who removes some: neither waits, the second is told."""

    def __init__(self) -> None:
        self._reading: Counter[str] = Counter()
        self._removing: set[str] = set()

    @contextmanager
    def reading(self, service: str) -> Iterator[None]:
        """Nothing is removed meanwhile. Raises Unavailable backup-busy."""
        if service in self._removing:
            raise Unavailable("backup-busy", f"old backups of {service} are being removed")
        self._reading[service] += 1
        try:
            yield
        finally:
            self._reading[service] -= 1

    @contextmanager
    def removing(self, service: str) -> Iterator[None]:
        """Nothing is read meanwhile. Raises Unavailable backup-busy."""
        if self._reading[service]:
            raise Unavailable("backup-busy", f"a backup of {service} is being read")
        self._removing.add(service)
        try:
            yield
        finally:
            self._removing.discard(service)


class Backups:
    """All services' backups in one store."""

    def __init__(
        self,
        *,
        store: BackupStore,
        sources: Mapping[str, Sequence[BackupSource]],
        rows: BackupRows,
        locks: Mapping[str, asyncio.Lock],
        clock: Clock,
        readers: Readers | None = None,
        tidy: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        """`sources` and `locks` by service; the locks are the lanes'. `tidy` follows each backup of a person: it is
        called with the lock held, and raises nothing."""
        self._store = store
        self._sources = sources
        self._rows = rows
        self._locks = locks
        self._clock = clock
        self._readers = readers or Readers()
        self._tidy = tidy
        self._writers = asyncio.Semaphore(WRITERS)
        self._verifications = asyncio.Semaphore(VERIFICATIONS)
        self._streams = asyncio.Semaphore(STREAMS)

    async def create(
        self, service: str, *, deployment: str | None = None, revision: str | None = None
    ) -> Backup:
        """A verified backup: `ok`, or `partial` if a person asked for it and files changed all the while.

        Raises Unavailable backup-busy if a deployment or backup of the service is going on, and as `create_locked`.
        """
        lock = self._locks[service]
        if lock.locked():
            raise Unavailable("backup-busy", f"{service} is being deployed or backed up")
        async with lock:
            made = await self.create_locked(service, deployment=deployment, revision=revision)
            await self._tidy(service)
        return made

    async def create_locked(
        self, service: str, *, deployment: str | None = None, revision: str | None = None
    ) -> Backup:
        """The same while the caller holds the service's lock.

        Raises StepFailed: disk-full, backup-source-*, backup-failed, backup-bad, backup-store-gone; with a
        deployment backup-partial.
        """
        async with self._writers:
            await self._require_store()
            at = self._clock.now()
            made = await self._store.create(
                id=_identity(at),
                service=service,
                at=at,
                sources=self._sources[service],
                deployment=deployment,
                revision=revision,
            )
            backup = await self._proven(made.id, made.digest)
        if backup.state == "bad":
            raise StepFailed("backup-bad", f"backup {backup.id} does not read back: {backup.reason}")
        if backup.state == "partial" and deployment is not None:
            raise StepFailed("backup-partial", f"backup {backup.id} is not of one piece")
        return backup

    async def list(self, service: str | None = None) -> Sequence[Backup]:
        """All backups or one service's, newest first."""
        return await self._rows.rows(service)

    async def verify(self, id: str) -> Backup:
        """Reads a backup back from the device; what was found is recorded.

        Raises StepFailed backup-unknown, backup-store-gone; Unavailable backup-busy while another is verified.
        """
        known = await self.find(id)
        if self._verifications.locked():
            raise Unavailable("backup-busy", "another backup is being verified")
        async with self._verifications:
            with self._readers.reading(known.service):
                await self._require_store()
                return await self._proven(id, known.digest, known)

    async def stream(self, id: str) -> AsyncGenerator[bytes, None]:
        """The backup as a tar stream; a stream that ends by itself is whole.

        Raises StepFailed: backup-unknown, or backup-bad as soon as it is known, at the latest in place of what is
        damaged. Raises Unavailable backup-busy while as many are on their way as may be.
        """
        known = await self.find(id)
        if known.state == "bad":
            raise StepFailed("backup-bad", f"backup {id} is damaged: {known.reason}")
        if self._streams.locked():
            raise Unavailable("backup-busy", "other backups are being downloaded")
        async with self._streams:
            with self._readers.reading(known.service):
                async with aclosing(self._store.stream(id, known.digest)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def adopt(self) -> None:
        """At start: removes leftovers, takes in what has no row (a cut between both), drops rows without a backup.

        Nothing is read back and no manifest that has its row is opened, so that a start does not wait for it: what is
        taken in is `unverified` until `settle` has read it. A store that cannot be used is told and left alone: the
        services go on, and no deployment passes its backup.
        """
        try:
            await self._require_store()
            await self._store.sweep()
            await self._align(await self._store.ids())
        except StepFailed as error:
            log.error("the backups cannot be used: %s", error)

    async def settle(self) -> None:
        """Soon after the start: reads back what `adopt` has taken in, one after the other, and ends."""
        for backup in await self._rows.rows():
            if backup.state == "unverified":
                within(patience.DATA)
                async with self._verifications:
                    await self._settle(backup)
        at_rest()

    async def _settle(self, backup: Backup) -> None:
        try:
            with self._readers.reading(backup.service):
                await self._require_store()
                proven = await self._proven(backup.id, backup.digest, backup)
        except (StepFailed, Unavailable) as error:
            log.warning("backup %s stays unverified: %s", backup.id, error)
        else:
            log.info("backup %s was read back: %s", proven.id, proven.state)

    async def _align(self, there: Set[str]) -> None:
        rows = {backup.id for backup in await self._rows.rows()}
        for lost in sorted(rows - there):
            log.warning("backup %s is gone from the disk", lost)
            await self._rows.forget(lost)
        for found in sorted(there - rows):
            backup = await self._store.look(found)
            await self._rows.record(backup)
            log.info("backup %s was found on the disk: %s", backup.id, backup.state)

    async def _require_store(self) -> None:
        """Refuses the empty mount point of a disk that is missing: it must not be taken for a store (F85)."""
        if not await self._store.begun() and await self._rows.rows():
            raise StepFailed("backup-store-gone", "backups are known, but their store is not there")

    async def find(self, id: str) -> Backup:
        """One backup as it was recorded. Raises StepFailed backup-unknown."""
        found = await self._rows.find(id)
        if found is None:
            raise StepFailed("backup-unknown", "there is no such backup")
        return found

    async def _proven(self, id: str, digest: str, known: Backup | None = None) -> Backup:
        """Verifies and records. What an unreadable manifest no longer tells is kept from `known`."""
        found = await self._store.verify(id, digest)
        if found.state == "bad" and known is not None:
            found = msgspec.structs.replace(known, state="bad", reason=found.reason)
        backup = msgspec.structs.replace(found, verified_at=self._clock.now())
        await self._rows.record(backup)
        return backup


def _identity(at: datetime) -> str:
    """Sorts by time, reads as a time, and is unique even if the clock jumps."""
    return f"{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
