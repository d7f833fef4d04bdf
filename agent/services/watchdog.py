"""Tells systemd that the agent is alive, as long as it is: the loop runs, and every promise is kept (R-SD-6).

It is a task of the event loop, so a loop that is blocked sends nothing. If one of the long-running loops is stuck, it
says once which, and sends nothing until that one comes by again. systemd then ends the agent and starts it anew; what
was under way is taken up from the journal, as after a power cut.
"""

import logging
from collections.abc import Callable

from agent.core.ports import Clock
from agent.core.pulse import Promise, told
from agent.services.heartbeat import Heartbeat

log = logging.getLogger(__name__)


class Watchdog:
    """`feed` says that all is well, `tell` what goes on; `services` counts them. `every` is in seconds; None: nobody
    wants to be fed, and nothing is looked at."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        clock: Clock,
        *,
        every: float | None,
        feed: Callable[[], None],
        tell: Callable[[str], None],
        services: Callable[[], int],
    ) -> None:
        self._heartbeat = heartbeat
        self._clock = clock
        self._every = every
        self._feed = feed
        self._tell = tell
        self._services = services
        self._told = ""
        self._stuck: dict[str, Promise] = {}

    async def run(self) -> None:
        """Looks until it is cancelled."""
        self._heartbeat.changed = self.report
        self.report()
        while self._every is not None:
            self.look()
            await self._clock.sleep(self._every)

    def look(self) -> None:
        """Feeds, or says who is stuck."""
        broken = {promise.who: promise for promise in self._heartbeat.broken()}
        for who, promise in broken.items():
            if who not in self._stuck:
                late = self._clock.monotonic() - promise.due
                log.error(
                    "%s is stuck%s: it should have come by %.0f s ago; systemd is told nothing more until it does",
                    who, f" while {promise.doing}" if promise.doing else "", late,
                )  # fmt: skip
        for who in self._stuck.keys() - broken.keys():
            log.warning("%s goes on", who)
        self._stuck = broken
        if not broken:
            self._feed()

    def report(self) -> None:
        """Says what goes on, if that has changed."""
        text = told(self._services(), self._heartbeat.doing())
        if text != self._told:
            self._tell(text)
        self._told = text
