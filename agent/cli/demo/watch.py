"""Asks the service all the while, as its users would, and measures how long it was really away."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

EVERY = 0.02
"""Seconds between two questions: what is seen of an outage is right to about this much."""


@dataclass
class Seen:
    """Since the last `begin`."""

    answered: int = 0
    missed: int = 0
    away: float = 0.0
    """Seconds from the first question that got no good answer to the next good answer, summed up."""

    def __str__(self) -> str:
        if not self.missed:
            return f"never away ({self.answered} questions, all answered)"
        return f"away for {self.away:.2f} s ({self.missed} of {self.answered + self.missed} questions unanswered)"


class Watch:
    """`url` is the service's address. A good answer is a 200 of its /health."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen = Seen()
        self._down_since: float | None = None
        self.health: dict[str, Any] = {}
        """The last good answer."""

    def begin(self) -> None:
        """Counts anew."""
        self._seen = Seen()

    def seen(self) -> Seen:
        """What was seen since then, with an outage that goes on."""
        going_on = time.monotonic() - self._down_since if self._down_since is not None else 0.0
        return Seen(self._seen.answered, self._seen.missed, self._seen.away + going_on)

    async def run(self) -> None:
        """Until it is cancelled."""
        # A connection for each question: a kept one would hide that nobody accepts new ones.
        connector = aiohttp.TCPConnector(force_close=True)
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                began = time.monotonic()
                health = await ask(session, f"{self._url}/health")
                self._count(began, health)
                await asyncio.sleep(max(0.0, EVERY - (time.monotonic() - began)))

    def _count(self, began: float, health: dict[str, Any] | None) -> None:
        if health is None:
            self._seen.missed += 1
            if self._down_since is None:
                self._down_since = began
            return
        self.health = health
        self._seen.answered += 1
        if self._down_since is not None:
            self._seen.away += time.monotonic() - self._down_since
            self._down_since = None


async def ask(session: aiohttp.ClientSession, url: str) -> Any:
    """The JSON of a 200, or None."""
    try:
        async with session.get(url) as response:
            return await response.json() if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
