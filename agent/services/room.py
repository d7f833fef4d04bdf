"""A disk that was too full, or refused to write, and is well again: what follows from that, without anybody's help.

The monitor's round asks here each time. As long as all is well that looks at two values in memory.
"""

import logging
from collections.abc import Awaitable, Callable

from agent.core.errors import Unavailable
from agent.core.ports import Clock
from agent.store.database import Database
from agent.store.events import EventLog

log = logging.getLogger(__name__)


class Room:
    """On the disk of the state. `why` says why there is too little, "" if there is enough; `restore` puts the reserve
    aside again, and says whether it could; `wake` tells everybody that there may be work."""

    def __init__(
        self,
        database: Database,
        events: EventLog,
        clock: Clock,
        *,
        why: Callable[[], str],
        restore: Callable[[], Awaitable[bool]],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._events = events
        self._clock = clock
        self._why = why
        self._restore = restore
        self._wake = wake
        self._waits = False

    def trouble(self) -> str:
        """What is wrong with the state or its disk, as a sentence; "" if nothing is. Answers at once."""
        if problem := self._database.trouble:
            return f"the state cannot be read or written: {problem}; deliveries are refused until it can"
        if why := self._why():
            return f"{why}: deliveries are refused and automatic deployments wait until there are"
        return ""

    async def look(self) -> None:
        """Tries what failed before, and says in the event log how it began and how it ended."""
        try:
            if self._database.trouble:
                await self._events.page(1)
                await self._record("store.back", {})
            await self._look_for_space()
        except Unavailable as problem:
            log.debug("the state is still not written: %s", problem)

    async def _look_for_space(self) -> None:
        if not self._database.short and not self._waits:
            return
        if not self._waits:
            await self._record("space.low", {"detail": self._why()})
            self._waits = True
        if await self._restore():
            await self._record("space.back", {})
            self._waits = False
            self._wake()

    async def _record(self, name: str, data: dict[str, object]) -> None:
        await self._events.record(name, self._clock.now(), data=data)
