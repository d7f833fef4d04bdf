"""A restore from the swap on, and how each of its states is committed.

Each step looks for itself what is already done, so that a restore that was cut off is carried on by the next start.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace as changed

from agent.core import patience
from agent.core.errors import Conflict, StepFailed, Unavailable
from agent.core.model import Fault, Release
from agent.core.ports import Clock, Place
from agent.core.restores import RESTORED, Restore, Standing, Swap
from agent.core.text import clean
from agent.services.health import watch
from agent.services.heartbeat import within
from agent.services.pruning import Pruning
from agent.services.replace import finish, promote, replace
from agent.services.site import Site
from agent.store.restores import RestoreRows
from agent.store.services import ServiceRows

log = logging.getLogger(__name__)

T = TypeVar("T")

PUT_BACK_ATTEMPTS = 3
JOURNAL_PAUSE = 5.0
"""How long to wait before the journal is tried again."""


class Swapping:
    """All services' data, being swapped. The caller holds the service's lock."""

    def __init__(
        self,
        *,
        sites: Mapping[str, Site],
        places: Mapping[str, Place],
        pruning: Pruning,
        rows: RestoreRows,
        services: ServiceRows,
        clock: Clock,
    ) -> None:
        self._sites = sites
        self._places = places
        self._pruning = pruning
        self._rows = rows
        self._services = services
        self._clock = clock

    async def carry(self, restore: Restore) -> Restore:
        """To its end, whatever was already done."""
        steps: dict[Standing, Callable[[Restore], Awaitable[Restore]]] = {
            Standing.SWAPPING: self._swap,
            Standing.STARTING: self._start,
            Standing.PUTTING_BACK: self._put_back,
        }
        while restore.state not in RESTORED:
            log.info("%s restore %s: %s", restore.service, restore.id, restore.state)
            within(patience.DATA, "restoring")
            restore = await self.advance(restore, await steps[restore.state](restore))
        log.info("%s restore %s: %s %s", restore.service, restore.id, restore.state, restore.reason)
        if restore.state is not Standing.FAILED:
            await self.quietly(self._places[restore.service].discard(restore.swaps))
        if restore.state is Standing.DONE:
            await self.quietly(self._pruning.keep_newest_copy(restore.service))
        return restore

    async def _swap(self, restore: Restore) -> Restore:
        try:
            kept = await finish(self._stop_and(restore, self._places[restore.service].swap))
        except StepFailed as failure:
            return _putting_back(restore, failure)
        live = await self._services.live(restore.service)
        onward = Standing.DONE if live is None or restore.deployment is not None else Standing.STARTING
        return changed(restore, state=onward, kept=kept)

    async def _start(self, restore: Restore) -> Restore:
        try:
            detail = await self._run(restore.service)
        except StepFailed as failure:
            return _putting_back(restore, failure)
        return changed(restore, state=Standing.DONE, detail=detail)

    async def _put_back(self, restore: Restore) -> Restore:
        """Nothing is left to go back to from here, so the disk is asked more than once."""
        try:
            put_back = self._places[restore.service].put_back
            await self._patiently(lambda: finish(self._stop_and(restore, put_back)))
        except StepFailed as failure:
            log.error("%s restore %s: %s", restore.service, restore.id, failure)
            detail = clean(f"{restore.detail}; and putting back failed: {failure.message}", 500)
            return changed(restore, state=Standing.FAILED, reason="restore-failed", detail=detail, kept=True)
        back = changed(restore, state=Standing.PUT_BACK, reason="restore-put-back", kept=False)
        if restore.deployment is not None:
            return back
        try:
            await self._run(restore.service)
        except StepFailed as failure:
            detail = clean(f"{restore.detail}; with the data from before: {failure.message}", 500)
            return changed(back, reason="restore-failed", detail=detail)
        return back

    async def _stop_and(self, restore: Restore, act: Callable[[Sequence[Swap]], Awaitable[T]]) -> T:
        await self._sites[restore.service].runtime.stop()
        return await act(restore.swaps)

    async def _run(self, service: str) -> str:
        """Starts what is live, and watches it as after a switch. Raises StepFailed."""
        live, site = await self._services.live(service), self._sites[service]
        if live is None:
            return "nothing is live"
        release = Release(name=live.release, service=service, revision=live.revision)
        await replace(site, release)
        launch, health = site.launch(release), site.settings.health
        detail = await watch(site.runtime, site.probes, launch, health, self._clock)
        return detail + await promote(site, launch)

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, PUT_BACK_ATTEMPTS):
            try:
                return await act()
            except StepFailed as failure:
                if failure.fault is not Fault.WORLD:
                    raise
                log.warning("putting back is tried again: %s", failure)
                await self._clock.sleep(attempt)
        return await act()

    async def quietly(self, work: Awaitable[None]) -> None:
        """Tidying costs space when it fails, and nothing else."""
        try:
            await work
        except (StepFailed, Unavailable) as problem:
            log.warning("after a restore: %s", problem)

    async def advance(self, was: Restore, restore: Restore) -> Restore:
        """Commits, also if the journal cannot be written for a while: nothing is done that is not in it."""
        if restore.state in RESTORED:
            restore = changed(restore, finished_at=self._clock.now())
        told = False
        while True:
            try:
                return await self._rows.advance(was, restore)
            except Conflict:  # an attempt that seemed to fail was written
                return await self._rows.find(was.id) or restore
            except Unavailable as problem:
                if not told:
                    log.error("%s restore %s waits: %s", was.service, was.id, problem)
                told = True
                await self._clock.sleep(JOURNAL_PAUSE)


def _putting_back(restore: Restore, failure: StepFailed) -> Restore:
    return changed(
        restore, state=Standing.PUTTING_BACK, reason=failure.code, detail=clean(failure.message, 500)
    )
