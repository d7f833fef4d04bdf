"""One lane per service: its deployments one after the other, what was cut off before anything new.

A lane sleeps until it is woken, and looks by itself now and then, because a wake-up may be lost. What it needs to
know stands in the journal, so that a lane that failed is simply started again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from agent.core import patience
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Deployment, Release, State
from agent.core.pipeline import ENDS, untouched
from agent.core.ports import Clock
from agent.core.retention import removable
from agent.services.deployer import Deployer
from agent.services.heartbeat import within
from agent.services.replace import replace
from agent.services.site import Site
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""How long a lost wake-up can delay a deployment."""
JOURNAL_PAUSE = 5.0
"""How long to wait before the journal is tried again."""


async def _nothing() -> None:
    """Nothing else belongs to the work."""


class Lane:
    """The queue of one service. `lock` is shared with whatever else must not run beside a deployment."""

    def __init__(
        self,
        site: Site,
        deployer: Deployer,
        journal: Journal,
        services: ServiceRows,
        rollbacks: Rollbacks,
        lock: asyncio.Lock,
        clock: Clock,
        ended: Callable[[Deployment], None] = lambda _: None,
        settle: Callable[[], Awaitable[None]] = _nothing,
        tidy: Callable[[], Awaitable[None]] = _nothing,
        short: Callable[[], bool] = lambda: False,
    ) -> None:
        """`settle` comes before everything at a start, `tidy` after each deployment; the lock is held for both. While
        the disk is `short` of space nothing is begun but rollbacks."""
        self._site = site
        self._deployer = deployer
        self._journal = journal
        self._services = services
        self._rollbacks = rollbacks
        self._lock = lock
        self._clock = clock
        self._ended = ended
        self._settle = settle
        self._tidy = tidy
        self._short = short
        self._woken = asyncio.Event()
        self._retired = False
        self._unrelieved = False

    @property
    def busy(self) -> bool:
        """Whether a deployment (or a backup) of this service is going on."""
        return self._lock.locked()

    def wake(self) -> None:
        """There may be work."""
        self._woken.set()

    def retire(self) -> None:
        """Begins nothing new from now on; `run` returns when what it is doing has ended."""
        self._retired = True
        self._woken.set()

    async def run(self) -> None:
        """Recovers, sees to it that what is live runs, and then works until it is retired or cancelled."""
        within(patience.DATA)  # for the lock: somebody may be at a backup
        async with self._lock:
            await self._begin()
        while not self._retired:
            await self._drain()
            await self._sleep()

    async def _begin(self) -> None:
        """What is live does not wait for git and builds: after a reboot it runs first. From the switch on, it is the
        deployment that was cut off which says what is to run. Before all of it the data must be whole."""
        within(patience.DATA, "recovering")
        await self._settle()
        within(patience.FILES, "recovering")
        await self._notice_a_loss()
        open_ones = [item for item in await self._journal.unfinished() if item.service == self._site.name]
        touched = [item for item in open_ones if not await self._is_untouched(item)]
        if not touched:
            await self._serve_live()
        for deployment in open_ones:
            await self._recover(deployment)
        await self._relieve()

    async def _notice_a_loss(self) -> None:
        """A state that knows nothing of what `current` names is a new one: the old one was lost (F32). Until a person
        has looked, nothing is deployed by itself: there would be nothing to go back to."""
        name = self._site.name
        if await self._services.live(name) is not None or await self._journal.releases(name):
            return
        try:
            current = await self._site.releases.current()
        except StepFailed:
            return  # the first deployment tells it
        if current is None or await self._services.hold_of(name) is not None:
            return
        log.error("%s: the state knows nothing of %s, which `current` names: was it lost?", name, current)
        await self._services.hold(
            name, actor="homeport", reason=f"the state was lost: nothing is known of {current}"
        )

    async def _is_untouched(self, deployment: Deployment) -> bool:
        """Whether what was live still serves. A migration that was cut off has not touched it."""
        migrates = deployment.migrated or bool(self._site.settings.deploy.migrate)
        if deployment.state is not State.SWITCHING or not migrates:
            return untouched(deployment)
        try:
            return await self._site.releases.current() != deployment.release
        except StepFailed as failure:
            log.error("%s: %s", self._site.name, failure)
            return False

    async def _drain(self) -> None:
        while True:
            within(patience.DATA)  # for the lock
            async with self._lock:
                within(patience.FILES)
                if self._retired:
                    return
                frozen = self._frozen_until() is not None
                deployment = await self._journal.claim(
                    self._site.name, self._site.config_hash, frozen=frozen, short=self._short()
                )
                if deployment is None:
                    await self._relieve(again=True)
                    return
                await self._carry(deployment, self._deployer.carry)
                await self._clean_up()

    async def _sleep(self) -> None:
        """Until it is woken, or a freeze ends. The wall clock may jump, so that it is looked at again and again."""
        seconds, end = LOOK_SECONDS, self._frozen_until()
        if end is not None:
            seconds = min(seconds, (end - self._clock.now()).total_seconds())
        within(seconds + patience.MARGIN)
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()

    def _frozen_until(self) -> datetime | None:
        return self._site.freeze.until(self._clock.now())

    async def _recover(self, deployment: Deployment) -> None:
        deployment = await self._journal.interrupted(deployment)
        log.warning("%s %s was cut off while %s", deployment.service, deployment.id, deployment.state)
        await self._carry(deployment, self._deployer.resume)
        await self._clean_up()

    async def _carry(
        self, deployment: Deployment, carry: Callable[[Deployment], Awaitable[Deployment]]
    ) -> None:
        """To the end, also when the journal cannot be written for a while: nothing is done that is not in it.

        `carry` decides about the state in which the deployment is now; a later one was not interrupted.
        """
        taken_up = deployment.state
        told = ""
        while deployment.state not in ENDS:
            try:
                deployment = await carry(deployment)
            except Unavailable as problem:
                if (
                    problem.message != told
                ):  # once, not every few seconds: the log lies on the same disk, perhaps
                    log.error("%s %s waits: %s", deployment.service, deployment.id, problem)
                told = problem.message
                deployment = await self._read_again(deployment)
                if deployment.state is not taken_up:
                    carry = self._deployer.carry
        self._ended(deployment)
        log.info("%s %s: %s %s", deployment.service, deployment.id, deployment.state, deployment.reason)

    async def _read_again(self, deployment: Deployment) -> Deployment:
        """After a pause, what the journal says of it: an attempt that seemed to fail may have been written."""
        while True:
            within(JOURNAL_PAUSE + patience.MARGIN, "waiting for the journal")
            await self._clock.sleep(JOURNAL_PAUSE)
            try:
                return await self._journal.deployment(deployment.id) or deployment
            except Unavailable as problem:
                log.debug("%s %s still waits: %s", deployment.service, deployment.id, problem)

    async def _serve_live(self) -> None:
        """After a reboot nothing runs: what the journal says is live is started again."""
        live = await self._services.live(self._site.name)
        if live is None:
            return
        try:
            replaced = await replace(
                self._site, Release(name=live.release, service=self._site.name, revision=live.revision)
            )
        except StepFailed as failure:
            log.error("%s: %s cannot be started: %s", self._site.name, live.release, failure)
        else:
            running = replaced.running
            log.info("%s: %s runs (pid %s)", self._site.name, running.release, running.pid)

    async def _clean_up(self) -> None:
        await self._relieve()
        within(patience.DATA, "tidying up")
        if not self._unrelieved:  # what runs on needs its release
            await self._prune()
        await self._tidy()

    async def _relieve(self, *, again: bool = False) -> None:
        """Side by side: what does not serve any more ends, unless somebody wants to go back by now: it is there still,
        and takes its users back at once. `again`: only if it did not end before."""
        if self._site.beside is None or (again and not self._unrelieved):
            return
        within(patience.draining(self._site.settings.blue_green), "draining")
        try:
            self._unrelieved = not await self._site.beside.retire(self._is_called_back)
        except StepFailed as failure:
            if not self._unrelieved:  # tried again at each look, told once
                log.warning("%s: what served before still runs: %s", self._site.name, failure)
            self._unrelieved = True

    async def _is_called_back(self) -> bool:
        try:
            return await self._rollbacks.waits(self._site.name)
        except Unavailable as problem:  # then none can be taken up either
            log.debug("%s: who wants to go back is not known: %s", self._site.name, problem)
            return False

    async def _prune(self) -> None:
        """Removes releases that nobody will miss. Whatever goes wrong here costs space, not the deployment."""
        site = self._site
        try:
            live = await self._services.live(site.name)
            current = await site.releases.current()
            open_ones = [item for item in await self._journal.unfinished() if item.service == site.name]
            needed = {name for name in (current, *(item.release for item in open_ones)) if name}
            needed |= await self._rollbacks.needed(site.name)
            for release in removable(
                await self._journal.releases(site.name, site.config_hash),
                needed=needed,
                live=live.release if live else None,
                keep=site.settings.deploy.keep_releases,
            ):
                await site.releases.remove(release.name)  # the disk first: a row without files is harmless
                await self._journal.forget_release(site.name, release.name)
        except (StepFailed, Unavailable) as problem:
            log.warning("%s: old releases stay for now: %s", site.name, problem)
