"""Passing on what a program prints while it runs: not too often, and nothing while it is silent."""

import asyncio
from collections.abc import Callable

PACE = 0.5
"""Seconds from one time to the next."""


class Telling:
    """Tells `heard` the newest text at most every `pace` seconds. No timer runs while there is no news."""

    def __init__(self, heard: Callable[[str], None], pace: float = PACE) -> None:
        self._heard = heard
        self._pace = pace
        self._next = 0.0
        self._text: Callable[[], str] = str
        self._timer: asyncio.TimerHandle | None = None

    def news(self, text: Callable[[], str]) -> None:
        """There is something new; `text` makes it when its time has come."""
        self._text = text
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._next, loop.time()), self._tell)

    def close(self) -> None:
        """Nothing is told any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self._timer = None
        self._next = asyncio.get_running_loop().time() + self._pace
        self._heard(self._text())
