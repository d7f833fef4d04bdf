"""The step ROLLING_BACK: to a release that proved itself, for one of three reasons.

- A deployment did not prove itself: back to the last confirmed release. If none is left on the disk, the revision
  that was live, the one before the push, or the commit's parent is built, like any other; a first deployment has
  nothing to go back to and is stopped.
- A person asked for it, or a workflow failed after the deployment: to a release that lies there whole, and nothing
  is touched before it was read back.

Nothing here goes on twice: where it goes is chosen from what the journal and the disk say, and what was begun (a
spare release, an aim) is found in the journal first.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from agent.core import guard, patience
from agent.core.errors import StepFailed
from agent.core.model import Deployment, Fault, Release, State
from agent.core.pipeline import Outcome
from agent.core.ports import Clock
from agent.core.text import clean
from agent.services.building import construct
from agent.services.health import watch
from agent.services.heartbeat import within
from agent.services.lookout import Lookout
from agent.services.progress import Progress
from agent.services.replace import demand, promote, replace
from agent.services.site import Site
from agent.services.step import Ended, Saves, hint_of
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from agent.store.transitions import Change

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
"""So often a rollback is tried when the world, not the release, stands in its way."""

GOING_BACK = str(State.ROLLING_BACK)


class WayBack:
    """Of one service."""

    def __init__(
        self,
        site: Site,
        journal: Journal,
        services: ServiceRows,
        rollbacks: Rollbacks,
        data: Saves,
        clock: Clock,
        progress: Progress,
        lookout: Lookout,
    ) -> None:
        self._site = site
        self._journal = journal
        self._services = services
        self._rollbacks = rollbacks
        self._data = data
        self._clock = clock
        self._progress = progress
        self._lookout = lookout

    async def go(self, deployment: Deployment) -> Ended:
        """The step. It raises nothing: whatever stands in the way, the row keeps the fault for which it goes back."""
        return await (self._bounce(deployment) if deployment.target is None else self._go_back(deployment))

    # --- what did not prove itself

    async def _bounce(self, deployment: Deployment) -> Ended:
        target: Release | None = None
        data = ""
        try:
            target = back = await self._patiently(partial(self._fallback, deployment))
            if back is None:
                return await self._patiently(partial(self._give_up, deployment))
            if deployment.migrated:
                within(patience.DATA, GOING_BACK)
                data = f"; {await self._data.restore_locked(deployment)}"
            detail = await self._change_to(back)
        except StepFailed as failure:
            return self._broken(deployment, target, failure, data)
        return Ended(Outcome.OK, Change(live=back, detail=f"{back.name} serves; {detail}{data}"))

    async def _fallback(self, deployment: Deployment) -> Release | None:
        """The last confirmed release that reads back intact; failing that, the last one that is there at all; failing
        that, one that is built.

        One that is live and was merely edited is taken as it is: it served like that until a moment ago.
        """
        there = set(await self._site.releases.names())
        known = await self._known()
        live = await self._services.live(self._site.name)
        serving = live.release if live is not None else None
        ways = guard.fallbacks(known, deployment.release, live=serving)
        candidates = [release for release in ways if release.name in there]
        for release in candidates:
            within(patience.FILES, GOING_BACK)
            try:
                await self._patiently(partial(self._site.releases.verify, release.name))
            except StepFailed as failure:
                log.warning("%s %s: %s", deployment.service, deployment.id, failure)
                if failure.code == "release-changed" and release.name == serving:
                    return release
            else:
                return release
        if candidates:
            return candidates[0]
        if deployment.previous is None and not guard.confirmed(known, deployment.release):
            return None  # the first one ever
        return await self._spare(deployment)

    async def _spare(self, deployment: Deployment) -> Release | None:
        """A release that is built because no confirmed one is on the disk any more; None: none can be had."""
        tried = {deployment.revision, None}
        for earlier in (self._live_before, self._before, self._parent):
            try:
                revision = await self._patiently(partial(earlier, deployment))
                if revision in tried or revision is None:
                    continue
                tried.add(revision)
                return await self._patiently(partial(self._build, deployment, revision))
            except StepFailed as failure:
                log.warning("%s %s: no way back there: %s", deployment.service, deployment.id, failure)
        return None

    async def _live_before(self, deployment: Deployment) -> str | None:
        return deployment.previous

    async def _before(self, deployment: Deployment) -> str | None:
        """What the delivery says that the branch was at: a hint, so it must lie on the branch."""
        return await self._site.source.resolve(deployment.before) if deployment.before else None

    async def _parent(self, deployment: Deployment) -> str | None:
        return await self._site.source.parent(deployment.revision) if deployment.revision else None

    async def _build(self, deployment: Deployment, revision: str) -> Release:
        """Builds it like any other, from the mirror if that has it. Raises StepFailed."""
        site = self._site
        if await self._services.quarantined(site.name, revision, deployment.config_hash):
            raise StepFailed("quarantined", f"{revision} failed before with this configuration")
        spare = await self._rollbacks.spare(deployment, revision)
        if await site.releases.current() == spare.name:
            return spare  # it was gone back to already, and may have edited itself since
        within(patience.fetching(self._site.settings.source), GOING_BACK)
        await site.releases.ready()
        if not await site.source.descends(revision, revision):
            await site.source.fetch()
        await construct(site, self._journal, spare, self._progress.listener(deployment))
        within(patience.FILES, GOING_BACK)
        await site.releases.verify(spare.name)
        await demand(site, site.launch(spare))
        return spare

    async def _give_up(self, deployment: Deployment) -> Ended:
        """Stops what did not prove itself: nothing is live."""
        within(patience.switching(self._site.settings.runtime), GOING_BACK)
        await self._site.runtime.stop()
        await self._site.releases.clear()
        change = Change(
            reason="no-fallback", hint=hint_of("no-fallback"),
            detail=f"nothing to go back to after {deployment.reason}; it was stopped",
        )  # fmt: skip
        return Ended(Outcome.NO_FALLBACK, change)

    # --- what was asked for

    async def _go_back(self, deployment: Deployment) -> Ended:
        try:
            if deployment.release is None and await self._serves(deployment.target):
                change = Change(
                    reason="already-live", hint=hint_of("already-live"), detail=f"{deployment.target} serves"
                )
                return Ended(Outcome.GONE_BACK, change)
            target = await self._patiently(partial(self._aim, deployment))
        except StepFailed as failure:
            return _refused(failure)
        try:
            detail = await self._change_to(target)
        except StepFailed as failure:
            if await self._is_untouched(target):
                return _refused(failure)
            return self._broken(deployment, target, failure)
        outcome = Outcome.GONE_BACK if deployment.trigger.kind == "manual" else Outcome.OK
        return Ended(outcome, Change(live=target, detail=f"{target.name} serves; {detail}"))

    async def _aim(self, deployment: Deployment) -> Release:
        """Where it goes, as the journal says; or chosen, read back and written there. Raises StepFailed."""
        if deployment.release is not None:
            return _aimed(deployment, deployment.release)
        there = set(await self._site.releases.names())
        here = [release for release in await self._known() if release.name in there]
        target = await (self._named(deployment.target, here) if deployment.target else self._last(here))
        await self._rollbacks.aim(deployment, target)
        return target

    async def _named(self, name: str, here: list[Release]) -> Release:
        found = next((release for release in here if release.name == name), None)
        if found is None:
            kept = ", ".join(release.name for release in here) or "none"
            raise StepFailed("no-release", f"{clean(name, 80)} is not kept here; these are: {kept}")
        await self._check(found)
        return found

    async def _last(self, here: list[Release]) -> Release:
        """The last confirmed one of another revision that lies there whole."""
        live = await self._services.live(self._site.name)
        left, unlike = (live.release, live.revision) if live is not None else (None, None)
        why = "there is no other confirmed release"
        for release in guard.fallbacks(here, left, unlike=unlike):
            try:
                await self._patiently(partial(self._check, release))
            except StepFailed as failure:
                why = f"{release.name}: {failure.message}"
                log.warning("%s: cannot go back to %s", self._site.name, why)
            else:
                return release
        raise StepFailed("no-fallback", why)

    async def _check(self, release: Release) -> None:
        within(patience.FILES, GOING_BACK)
        await self._site.releases.verify(release.name)
        await demand(self._site, self._site.launch(release))

    async def _serves(self, name: str | None) -> bool:
        """Whether this release is live, has proved itself, and really runs."""
        live = await self._services.live(self._site.name)
        if not name or live is None or live.release != name or not live.proven:
            return False
        running = await self._site.runtime.look()
        return running is not None and running.release == name

    async def _is_untouched(self, target: Release) -> bool:
        """Whether the switch never began: what was to be left still serves."""
        try:
            return await self._site.releases.current() != target.name
        except StepFailed:
            return False

    # --- parts of both

    async def _known(self) -> list[Release]:
        return await self._journal.releases(self._site.name, self._site.config_hash)

    async def _change_to(self, release: Release) -> str:
        """Switches and proves. Raises StepFailed."""
        site = self._site
        self._lookout.begin()
        replaced = await self._patiently(partial(replace, site, release))
        launch, health = site.launch(release), site.settings.health
        detail = await self._patiently(partial(watch, site.runtime, site.probes, launch, health, self._clock))
        how = f"; {replaced.how}" if replaced.how else ""
        return detail + how + await self._patiently(partial(promote, site, launch))

    def _broken(
        self, deployment: Deployment, target: Release | None, failure: StepFailed, data: str = ""
    ) -> Ended:
        log.error("%s %s: the rollback failed: %s", deployment.service, deployment.id, failure)
        after = f"after {deployment.reason}: " if deployment.reason else ""
        change = Change(
            reason="rollback-failed", hint=hint_of("rollback-failed"), live=target,
            detail=clean(f"{after}{failure.message}{data}", 500), output=failure.output,
        )  # fmt: skip
        return Ended(Outcome.FAILED, change)

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """What the world refuses is tried again, a verdict about the release is not: a rollback is the last line."""
        for attempt in range(1, ATTEMPTS):
            try:
                return await act()
            except StepFailed as failure:
                if failure.fault is not Fault.WORLD or failure.code in VERDICTS:
                    raise
                log.warning("%s: the way back is tried again: %s", self._site.name, failure)
                await self._clock.sleep(attempt)
        return await act()


VERDICTS = frozenset(
    {
        "no-release",
        "no-fallback",
        "release-changed",
        "release-damaged",
        "quarantined",
        "revision-unknown",
        "not-on-branch",
    }
)
"""The world's faults that another attempt would not change."""


def _aimed(deployment: Deployment, name: str) -> Release:
    revision = deployment.revision if deployment.trigger.kind == "manual" else deployment.previous
    assert revision is not None, "the aim wrote it"
    return Release(name=name, service=deployment.service, revision=revision)


def _refused(failure: StepFailed) -> Ended:
    """Nothing was touched, and nobody's revision is to blame."""
    change = Change(
        reason=failure.code, hint=failure.hint, fault=Fault.WORLD,
        detail=clean(failure.message, 500), output=failure.output,
    )  # fmt: skip
    return Ended(Outcome.NO_FALLBACK, change)
