"""What is done about a service that is unwell between deployments.

Within `rollback.probation` after its deployment it goes back, once. Otherwise it is started again, a few times; then it
is held, and a person is told.

The monitor finds out, this acts, under the lock of the lane: never during a deployment, a backup or a restore. Whoever
starts a service by himself, systemd with `Restart=` say, is let do so. How often it was tried is forgotten with the
agent; that nobody tries any more is not: it stands in the hold.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent.core import patience
from agent.core.errors import StepFailed, Unavailable
from agent.core.healing import GIVEN_UP, Restarts
from agent.core.model import Release
from agent.core.ports import Clock
from agent.core.text import clean
from agent.services.health import observe
from agent.services.heartbeat import within
from agent.services.replace import demand, finish, promote, replace
from agent.services.site import Site
from agent.store.events import EventLog
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows

log = logging.getLogger(__name__)

ACTOR = "homeport"


class Healer:
    """One service's. `health` is what the monitor says of it, (state, detail); `look` makes the monitor look again;
    `every` is in seconds, as it is in force; `in_hand`: a deployment or a restore says what is to run, or a person
    must; `wake`: there is a rollback to be done.
    """

    def __init__(
        self,
        site: Site,
        services: ServiceRows,
        rollbacks: Rollbacks,
        events: EventLog,
        lock: asyncio.Lock,
        clock: Clock,
        *,
        every: Callable[[], float],
        health: Callable[[], tuple[str, str]],
        look: Callable[[], Awaitable[None]],
        in_hand: Callable[[str], Awaitable[bool]],
        wake: Callable[[], None],
    ) -> None:
        self._site = site
        self._services = services
        self._rollbacks = rollbacks
        self._events = events
        self._lock = lock
        self._clock = clock
        self._every = every
        self._health = health
        self._look = look
        self._in_hand = in_hand
        self._wake = wake
        self._release = ""
        self._restarts = Restarts()
        self._gave_up = False
        self._trouble = ""

    async def run(self) -> None:
        """Heals until it is cancelled."""
        while True:
            every = self._every()
            within(every + patience.MARGIN)
            await self._clock.sleep(every)
            within(patience.asking(self._site.settings.health))
            await self.heal()

    async def heal(self) -> None:
        """What is to be done now, if anything."""
        if self._health()[0] != "unhealthy" or await self._is_given_up():
            return
        if self._lock.locked():
            return  # no await between this and the lock: it would wait for a whole deployment
        async with self._lock:
            try:
                acted = await self._treat()
            except StepFailed as failure:
                if str(failure) != self._trouble:  # told once: a person may need a while
                    log.warning("%s cannot be healed: %s", self._site.name, failure)
                self._trouble = str(failure)
                return
            self._trouble = ""
        if acted:
            within(patience.asking(self._site.settings.health))
            with suppress(Unavailable):  # the monitor looks again by itself
                await self._look()

    async def _is_given_up(self) -> bool:
        """Until a person resumes the service; then the count begins anew."""
        held = await self._services.hold_of(self._site.name)
        if held is not None and (self._gave_up or held.reason.startswith(GIVEN_UP)):
            return True
        if self._gave_up:
            self._gave_up, self._restarts = False, Restarts()
        return False

    async def _treat(self) -> bool:
        """Looks once more first: what the monitor said may be over, or somebody else's. Whether it was restarted."""
        site, rules = self._site, self._site.settings.health
        live = await self._services.live(site.name)
        if live is None or await self._in_hand(site.name):
            return False
        await site.alone()
        release = Release(name=live.release, service=site.name, revision=live.revision)
        seen = await observe(site.runtime, site.probes_at_rest, site.launch(release), self._clock)
        detail = seen.complaint if seen.instance is not None else "the process is not running"
        if seen.good:
            return False
        # what runs goes on as it is where nginx could not follow to another port
        if site.beside is not None and seen.instance is not None:
            await demand(site, site.launch(release))
        if await self._goes_back(release, detail):
            return False
        if not rules.restarts or await site.runtime.recovers():
            return False
        if self._release != release.name:
            self._release, self._restarts = release.name, Restarts()
        due = self._restarts.due(self._clock.monotonic(), rules.restarts, rules.timeout + rules.soak)
        if due is None:
            await self._give_up(detail)
        elif due == 0:
            await self._start_again(release, detail)
        return due == 0

    async def _goes_back(self, release: Release, detail: str) -> bool:
        """Whether it is on probation: then its rollback is queued, and what else waits comes after that."""
        site, probation = self._site, self._site.settings.rollback.probation
        if not probation:
            return False
        made = await self._rollbacks.leave(
            site.name, release.name, within=probation, detail=clean(detail, 256), config_hash=site.config_hash
        )
        if made is None:
            return False
        log.error("%s fell ill on probation and goes back (%s): %s", site.name, made.id, detail)
        self._wake()
        return True

    async def _give_up(self, detail: str) -> None:
        count = self._site.settings.health.restarts
        reason = clean(f"{GIVEN_UP} {count} restart{'' if count == 1 else 's'}: {detail}", 256)
        log.error("%s: %s", self._site.name, reason)
        await self._services.hold(self._site.name, actor=ACTOR, reason=reason)
        self._gave_up = True

    async def _start_again(self, release: Release, detail: str) -> None:
        site = self._site
        log.warning("%s is started again: %s", site.name, detail)
        self._restarts = self._restarts.after(self._clock.monotonic())
        try:
            await finish(_again(site, release))
        except StepFailed as failure:
            log.error("%s cannot be started again: %s", site.name, failure)
        data = {"detail": detail, "release": release.name, "count": len(self._restarts.at)}
        try:
            await self._events.record("service.restarted", self._clock.now(), service=site.name, data=data)
        except Unavailable as problem:  # a service is not left down because its journal is full
            log.warning("%s was started again, which could not be written down: %s", site.name, problem)


async def _again(site: Site, release: Release) -> None:
    within(patience.switching(site.settings.runtime), "restarting")
    await site.runtime.stop()
    await replace(site, release)
    await promote(site, site.launch(release))
