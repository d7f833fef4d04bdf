"""Asks each live service now and then, outside of deployments, and remembers the answer for /health.

At rest it asks each service's probes every `monitor.every` (less often where a probe has `every`), and writes
nothing but an event when the health of a service changes. It only tells: what is to be done about it is the
deployer's and a person's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from agent.core import patience
from agent.core.errors import StepFailed, Unavailable
from agent.core.health import AtRest
from agent.core.model import Deployment, Live, Release, State
from agent.core.ports import Clock
from agent.services.health import observe
from agent.services.heartbeat import within
from agent.services.site import Site
from agent.store.events import EventLog
from agent.store.services import ServiceRows

log = logging.getLogger(__name__)

_VERDICTS = {State.SUCCEEDED: "healthy", State.ROLLED_BACK: "healthy", State.BROKEN: "unhealthy"}


async def _nothing() -> None:
    """Nothing else belongs to the round."""


@dataclass(frozen=True)
class Told:
    """What the monitor says of a service: `state` is healthy, unhealthy, held, none or unknown."""

    state: str
    detail: str = ""


class Monitor:
    """The health of all services, from memory."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        services: ServiceRows,
        events: EventLog,
        busy: Callable[[str], bool],
        every: float,
        clock: Clock,
        beside: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """`sites` is looked up at each look; which of them are looked at says `watch`, at first all. `beside` is done
        in each round."""
        self._sites = sites
        self._services = services
        self._events = events
        self._busy = busy
        self._every = every
        self._clock = clock
        self._names: Collection[str] = tuple(sites)
        self._at_rest: dict[str, AtRest] = {}
        self._told: dict[str, Told] = {}
        self._unwell: set[str] = set()
        self._unseen: set[str] = set()
        self._beside = beside
        self._woken = asyncio.Event()

    def health(self) -> dict[str, tuple[str, str]]:
        """(state, detail) of each service that was looked at. Answers at once."""
        return {name: (told.state, told.detail) for name, told in self._told.items()}

    def ended(self, deployment: Deployment) -> None:
        """A deployment has ended: what it found out counts at once, and a look follows."""
        verdict = _VERDICTS.get(deployment.state)
        if verdict is not None and deployment.reason != "already-live":
            self._at_rest[deployment.service] = AtRest(status=verdict)
            self._told[deployment.service] = Told(verdict)
        self._woken.set()

    def watch(self, names: Collection[str], every: float) -> None:
        """From now on these services are looked at, and so often; a look follows."""
        for gone in set(self._told) - set(names):
            del self._told[gone]
            self._at_rest.pop(gone, None)
            self._unwell.discard(gone)
        self._names, self._every = names, every
        self._woken.set()

    async def prime(self, names: Collection[str] | None = None) -> None:
        """Before anybody asks: what was never deployed is `none` from the first answer on, not unknown."""
        for name in self._names if names is None else names:
            if await self._services.live(name) is None:
                await self.look(name)

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            within(patience.FILES)
            await self._beside()
            for name in self._names:
                within(patience.asking(self._sites[name].settings.health))
                try:
                    await self.look(name)
                except (StepFailed, Unavailable) as problem:  # of this service only: the others are looked at
                    if name not in self._unseen:  # told once: the log lies on the same disk, perhaps
                        log.warning("%s cannot be looked at: %s", name, problem)
                    self._unseen.add(name)
                else:
                    self._unseen.discard(name)
            await self._sleep()

    async def _sleep(self) -> None:
        """Until the next look is due, or a deployment ends."""
        within(self._every + patience.MARGIN)
        due = asyncio.ensure_future(self._clock.sleep(self._every))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({due, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            due.cancel()
            woken.cancel()
            self._woken.clear()

    async def look(self, name: str) -> None:
        """One service, now. During its deployment the deployer asks, and the last answer stands."""
        try:
            told = await self._look(name)
        except StepFailed as problem:
            told = Told("unknown", problem.message)
        await self._tell(name, told)

    async def regard(self, name: str) -> None:
        """A person held or resumed the service: that counts at once, and what the last look found stands."""
        self._told[name] = await self._known(name, await self._services.live(name))

    async def _look(self, name: str) -> Told:
        live = await self._services.live(name)
        if live is None:
            self._at_rest.pop(name, None)
        elif not self._busy(name):
            site = self._sites[name]
            release = Release(name=live.release, service=name, revision=live.revision)
            launch = site.launch(release)
            seen = await observe(site.runtime, site.probes_at_rest, launch, self._clock)
            if not self._busy(name):  # a deployment that began meanwhile changes what is live
                self._at_rest[name] = self._at_rest.get(name, AtRest()).after(seen)
        return await self._known(name, live)

    async def _known(self, name: str, live: Live | None) -> Told:
        """What was found out so far, beside the hold as it is now."""
        held = await self._services.hold_of(name)
        rest = AtRest(status="none") if live is None else self._at_rest.get(name, AtRest())
        if held is not None and rest.status in ("healthy", "none"):
            return Told("held", held.reason)
        return Told(rest.status, rest.detail)

    async def _tell(self, name: str, told: Told) -> None:
        """The answer counts at once; its event is tried again by the next look if it cannot be written now."""
        self._told[name] = told
        if told.state == "unhealthy" and name not in self._unwell:
            await self._record("service.unhealthy", name, told)
            self._unwell.add(name)
        elif told.state in ("healthy", "held") and name in self._unwell:
            await self._record("service.healthy", name, told)
            self._unwell.remove(name)

    async def _record(self, event: str, name: str, told: Told) -> None:
        await self._events.record(event, self._clock.now(), service=name, data={"detail": told.detail})
        log.warning("%s is %s: %s", name, told.state, told.detail)
