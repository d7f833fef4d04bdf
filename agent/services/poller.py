"""Asks a service's remote now and then for the branch's tip, for the pushes whose delivery was lost.

GitHub never sends a delivery again by itself: what came while the Pi was off is found here, at the start and at every
`source.poll`. It queues what the gate `deploy.on` lets through and looks at nothing but the tip. At rest it costs one
`git ls-remote` and one read of the journal; nothing is written.
"""

import logging
from collections.abc import Callable

from agent.core import patience
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Polled
from agent.core.polling import pause
from agent.core.ports import Clock, Wake
from agent.core.text import clean
from agent.services.heartbeat import within
from agent.services.site import Site
from agent.store.polls import Polls

log = logging.getLogger(__name__)

NO_GATE = "`deploy.on` has no push: a tip by itself deploys nothing"


class Poller:
    """The polls of one service. `chance` draws a number from 0 to 1 for the jitter; `wake` is its lane's."""

    def __init__(
        self, site: Site, polls: Polls, wake: Wake, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._site = site
        self._polls = polls
        self._wake = wake
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._wanted = 0.0
        self._told: Polled | None = None

    @property
    def last(self) -> Polled | None:
        """What the last poll found; from memory, at once."""
        return self._told

    async def run(self) -> None:
        """Polls until it is cancelled."""
        while True:
            within(patience.polling(self._site.settings.source))
            await self.poll()
            interval = self._site.settings.source.poll
            seconds = pause(interval, self._failures, self._chance(), self._wanted)
            within(seconds + patience.MARGIN)
            await self._clock.sleep(seconds)

    async def poll(self) -> None:
        """One poll. What fails is told when it begins to fail and when it works again, not each time."""
        name = self._site.name
        try:
            tip = await self._site.source.peek()
            note = await self._answer(tip)
        except (StepFailed, Unavailable) as problem:
            self._failures += 1
            self._wanted = (problem.retry_after or 0.0) if isinstance(problem, StepFailed) else 0.0
            known = self._told.tip if self._told is not None else None
            self._tell(known, clean(f"{problem.message} ({problem.code})"))
            if self._failures == 1:
                log.warning("%s: the poll fails: %s", name, problem)
            return
        if self._failures:
            log.info("%s: the poll works again, after %d failures", name, self._failures)
        self._failures, self._wanted = 0, 0.0
        self._tell(tip, note)

    async def _answer(self, tip: str) -> str:
        if "push" not in self._site.settings.deploy.on:
            return NO_GATE
        reason = await self._polls.found(self._site.name, tip, self._site.config_hash)
        if reason:
            return reason
        log.info("%s: the poll found %s", self._site.name, tip)
        self._wake()
        return "the tip was queued"

    def _tell(self, tip: str | None, note: str) -> None:
        self._told = Polled(at=self._clock.now(), tip=tip, note=note)
