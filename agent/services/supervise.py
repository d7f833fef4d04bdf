"""Keeps the long-running services running: one that fails is told about and started again, with a pause.

Everything that such a service decided stands in the store, so that starting it again is the same as starting
after a power cut. This is one of the few places that catch every exception.

What runs here promises to come by again (`services.heartbeat`). A loop that has returned, and should not have, breaks
its last promise.
"""

import logging
from collections.abc import Awaitable, Callable

from agent.core.errors import Unavailable
from agent.core.patience import MARGIN
from agent.core.ports import Clock
from agent.services.heartbeat import Beat, current, unwatched, within

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
GOOD_RUN = 300.0
"""After so many seconds without a failure the pause begins small again."""


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], clock: Clock, beat: Beat = unwatched
) -> None:
    """Runs `run()` until it returns or is cancelled. `beat` is what it says with that it is alive."""
    ours = current.set(beat)
    try:
        await _keep_running(name, run, clock)
    finally:
        current.reset(ours)


async def _keep_running(name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    pause = FIRST_PAUSE
    while True:
        within(MARGIN)
        started = clock.monotonic()
        try:
            await run()
        except Unavailable as problem:
            log.error("%s cannot work: %s; it is started again in %g s", name, problem, pause)
        except Exception:
            log.exception("%s failed; it is started again in %g s", name, pause)
        else:
            return
        if clock.monotonic() - started > GOOD_RUN:
            pause = FIRST_PAUSE
        within(pause + MARGIN)
        await clock.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
