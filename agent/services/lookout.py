"""Looks on while a service is switched: how long nobody answered, as its users saw it.

It is begun right before something is stopped and ended with the deployment, good or bad. At rest it costs nothing. What
was cut off by the agent's end is not measured: half of an outage would be told as a whole one.
"""

import asyncio
import logging

from agent.core.model import Outage
from agent.core.outage import Asked, measured, pause
from agent.core.ports import Clock, Knock

log = logging.getLogger(__name__)


class Lookout:
    """Of one service; without a `door` there is nothing to knock at, and nothing is told."""

    def __init__(self, door: Knock | None, clock: Clock) -> None:
        self._door = door
        self._clock = clock
        self._asked: list[Asked] = []
        self._task: asyncio.Task[None] | None = None
        self._blind = False

    def blind(self) -> None:
        """The beginning was missed: nothing is told until the next `end`."""
        self._blind = True

    def begin(self) -> None:
        """From now on; once begun it goes on."""
        if self._door is not None and self._task is None and not self._blind:
            self._asked = []
            self._task = asyncio.create_task(self._look(self._door), name="lookout")

    async def end(self) -> Outage | None:
        """What was seen since `begin`; None without it."""
        task, self._task, self._blind = self._task, None, False
        if task is None:
            return None
        task.cancel()
        # awaited itself, it would take a cancellation that is meant for the caller
        await asyncio.wait({task})
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("the outage is not told whole: %s", failure, exc_info=failure)
        return measured(self._asked)

    async def _look(self, door: Knock) -> None:
        in_a_row = 0
        while True:
            sent = self._clock.monotonic()
            answered = await door.knock()
            self._asked.append(Asked(sent, self._clock.monotonic(), answered))
            in_a_row = in_a_row + 1 if answered else 0
            await self._clock.sleep(pause(in_a_row))
