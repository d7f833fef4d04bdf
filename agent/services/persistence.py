"""A step that fails because nobody answers is tried again by itself, a few times (R-RB-6).

It can be: every step can be run twice. Nothing about it is written down until it ends; an agent that is killed in a
pause begins the step anew, as after any cut. What happened so far can be read while it goes on, and stays with the
deployment.
"""

import logging
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from agent.core import backoff
from agent.core.errors import StepFailed
from agent.core.model import Deployment
from agent.core.ports import Clock
from agent.services.progress import Progress
from agent.services.step import Ended

log = logging.getLogger(__name__)

Step = Callable[[Deployment], Awaitable[Ended]]


def persistent(step: Step, clock: Clock, chance: Callable[[], float], progress: Progress) -> Step:
    """The same step, tried as often as `core.backoff` says. `chance` draws a number from 0 to 1."""

    async def tried(deployment: Deployment) -> Ended:
        begun, failures, notes = clock.monotonic(), 0, ""
        while True:
            try:
                ended = await step(deployment)
            except StepFailed as failure:
                failures += 1
                elapsed = clock.monotonic() - begun
                seconds = backoff.pause(failure.code, failures, elapsed, chance(), failure.retry_after)
                if seconds is None:
                    failure.output = notes + failure.output
                    raise
                log.warning(
                    "%s %s: tried again in %.0f s: %s", deployment.service, deployment.id, seconds, failure
                )
                notes += f"{failure.message} ({failure.code}); tried again in {seconds:.0f} s\n"
                progress.listener(deployment)(notes)
                await clock.sleep(seconds)
            else:
                return Ended(ended.outcome, replace(ended.change, output=notes + ended.change.output))

    return tried
