"""Carries one deployment from state to state: does the step, asks the pipeline, records, goes on.

A step is a coroutine that returns how it ended. Its state was committed before it runs, and it first looks what
is already done, so that it can be run again after a cut at any instant. What it found out is recorded together
with the next state; nothing else decides.
"""

import logging
import random
from collections.abc import Callable

from msgspec import structs

from agent.core import patience
from agent.core.errors import StepFailed
from agent.core.model import Deployment, Fault, Launch, Release, State
from agent.core.pipeline import BEFORE_SWITCH, ENDS, Outcome, advance, recover
from agent.core.ports import Clock
from agent.services.building import construct, migrate
from agent.services.gate import Gate
from agent.services.health import watch
from agent.services.heartbeat import within
from agent.services.lookout import Lookout
from agent.services.persistence import Step, persistent
from agent.services.progress import Progress
from agent.services.replace import demand, promote, replace
from agent.services.rollback import WayBack
from agent.services.site import Site
from agent.services.step import Ended, Saves, ended_by, hint_of, release_of
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from agent.store.transitions import Change, Limits

log = logging.getLogger(__name__)


class Deployer:
    """One service's deployments, one at a time: the caller (its lane) sees to that."""

    def __init__(
        self,
        site: Site,
        journal: Journal,
        services: ServiceRows,
        rollbacks: Rollbacks,
        backups: Saves,
        clock: Clock,
        progress: Progress,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance` draws a number from 0 to 1, for the jitter of what is tried again."""
        self._site = site
        self._journal = journal
        self._services = services
        self._backups = backups
        self._clock = clock
        self._gate = Gate(site, journal, services, clock)
        self._progress = progress
        self._lookout = Lookout(site.door, clock)
        self._steps: dict[State, Step] = {
            State.FETCHING: persistent(self._fetch, clock, chance, progress),
            State.BUILDING: persistent(self._build, clock, chance, progress),  # submodules are fetched there
            State.BACKING_UP: self._back_up,
            State.SWITCHING: self._switch,
            State.VERIFYING: self._verify,
            State.ROLLING_BACK: WayBack(
                site, journal, services, rollbacks, backups, clock, progress, self._lookout
            ).go,
        }

    async def carry(self, deployment: Deployment) -> Deployment:
        """From the state in which it is to its end. Raises Unavailable when the journal cannot be written: then
        nothing more was done than the journal says, and the same call later goes on from there."""
        try:
            while deployment.state not in ENDS:
                ended = await self._work(deployment)
                deployment = await self._record(deployment, ended)
        finally:
            await self._lookout.end()
        return deployment

    async def resume(self, deployment: Deployment) -> Deployment:
        """Goes on with one that was cut off; its interruption is in the row already."""
        outcome = recover(deployment.state, deployment.interruptions)
        if outcome is not None:
            change = Change(
                reason="interrupted", hint=hint_of("interrupted"), fault=Fault.INTERRUPTED,
                detail=f"cut off {deployment.interruptions} times",
            )  # fmt: skip
            deployment = await self._record(deployment, Ended(outcome, change))
        if deployment.state not in BEFORE_SWITCH:
            self._lookout.blind()
        if outcome is None and deployment.state is State.VERIFYING:
            await self._start_again(deployment)
        return await self.carry(deployment)

    async def _work(self, deployment: Deployment) -> Ended:
        log.info("%s %s: %s", deployment.service, deployment.id, deployment.state)
        within(patience.FILES, str(deployment.state))
        try:
            return await self._steps[deployment.state](deployment)
        except StepFailed as failure:
            log.warning("%s %s: %s", deployment.service, deployment.id, failure)
            return ended_by(failure)

    async def _record(self, deployment: Deployment, ended: Ended) -> Deployment:
        to = advance(deployment.state, ended.outcome)
        limits = Limits(self._site.settings.rollback.max_per_hour)
        change = await self._reported(deployment, to, ended.change)
        if to in ENDS:
            change = structs.replace(change, outage=await self._lookout.end())
        recorded = await self._journal.advance(deployment, to, change, limits)
        self._progress.forget(deployment.id)
        return recorded

    async def _reported(self, deployment: Deployment, to: State, change: Change) -> Change:
        """Where the data stays as it is, whoever reads why it failed is told that it was migrated (R-RB-9)."""
        restored = self._site.settings.rollback.restore_data != "never" and to is not State.FAILED
        if change.hint is None or deployment.state in BEFORE_SWITCH or restored:
            return change
        now = await self._journal.deployment(deployment.id)
        if now is None or not now.migrated:
            return change
        backup = f"pre-deploy backup {now.backup}" if now.backup else "there is no pre-deploy backup"
        return structs.replace(change, hint=f"{change.hint} The schema was migrated; {backup}.")

    # --- the steps, in the order of the pipeline

    async def _fetch(self, deployment: Deployment) -> Ended:
        within(patience.fetching(self._site.settings.source), State.FETCHING)
        await self._site.releases.ready()
        outcome, change = await self._gate.ask(deployment)
        return Ended(outcome, change)

    async def _build(self, deployment: Deployment) -> Ended:
        heard = self._progress.listener(deployment)
        return Ended(Outcome.OK, await construct(self._site, self._journal, release_of(deployment), heard))

    async def _back_up(self, deployment: Deployment) -> Ended:
        """The backup; then the release is read back once more, while the old one still serves untouched."""
        site, release = self._site, release_of(deployment)
        change = Change(detail="off")
        if site.settings.backup.before_deploy == "required":
            live = await self._services.live(site.name)
            within(patience.DATA, State.BACKING_UP)
            backup = await self._backups.create_locked(
                site.name, deployment=deployment.id, revision=live.revision if live else None
            )
            change = Change(backup=backup.id, detail=f"{backup.id}, {backup.bytes} bytes, read back")
        within(patience.FILES, State.BACKING_UP)
        await site.releases.verify(release.name)
        await demand(site, site.launch(release))
        return Ended(Outcome.OK, change)

    async def _switch(self, deployment: Deployment) -> Ended:
        """First the data, while the old version still serves: if that fails, nothing was switched."""
        release, heard = release_of(deployment), self._progress.listener(deployment)
        try:
            output = await migrate(self._site, self._journal, deployment, release, heard)
        except StepFailed as failure:
            log.warning("%s %s: %s", deployment.service, deployment.id, failure)
            await self._serve_on(deployment)
            return ended_by(failure, Outcome.MIGRATE_FAILED)
        if deployment.previous is not None:
            self._lookout.begin()
        try:
            replaced = await replace(self._site, release)
        except StepFailed as failure:
            failure.output = output + failure.output
            raise
        how = f"; {replaced.how}" if replaced.how else ""
        return Ended(Outcome.OK, Change(detail=f"{release.name} was started{how}", output=output))

    async def _verify(self, deployment: Deployment) -> Ended:
        launch = self._site.launch(release_of(deployment))
        detail = await self._prove(launch) + await promote(self._site, launch)
        return Ended(Outcome.OK, Change(live=release_of(deployment), detail=detail))

    # --- parts of them

    async def _prove(self, launch: Launch) -> str:
        """Watches what was started until it is healthy and stayed so. Raises StepFailed with its output."""
        return await watch(
            self._site.runtime, self._site.probes, launch, self._site.settings.health, self._clock
        )

    async def _serve_on(self, deployment: Deployment) -> None:
        """After a migration that failed: what is live may have died while its data was locked. If it runs it is left
        alone."""
        live = await self._services.live(self._site.name)
        if live is None:
            return
        release = Release(name=live.release, service=self._site.name, revision=live.revision)
        try:
            await replace(self._site, release)
        except StepFailed as failure:
            log.error("%s %s: %s", deployment.service, deployment.id, failure)

    async def _start_again(self, deployment: Deployment) -> None:
        """Before a verification that was cut off begins anew: a reboot has ended the process."""
        try:
            await replace(self._site, release_of(deployment))
        except StepFailed as failure:
            log.warning("%s %s: %s", deployment.service, deployment.id, failure)  # the verification will tell
