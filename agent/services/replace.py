"""The switch: `current` names another release, the old process ends, the new one starts.

This is the only place in which a service stands still, so once begun it is finished, also when the agent is told
to stop in the middle of it. Run twice, it leaves alone what already runs.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from agent.core import patience
from agent.core.model import Release, Running
from agent.services.heartbeat import within
from agent.services.site import Site

T = TypeVar("T")

log = logging.getLogger(__name__)


async def replace(site: Site, release: Release) -> Running:
    """Makes `release` the one that runs and that `current` names. Raises StepFailed.

    A process that runs this very release keeps running: that is how a rollback from a switch that did not get far
    costs the service nothing.
    """
    within(patience.switching(site.settings.runtime), "switching")
    return await finish(_replace(site, release))


async def _replace(site: Site, release: Release) -> Running:
    await site.room()
    running = (
        await site.runtime.look()
    )  # before `current` changes: what somebody else started runs what it names
    if await site.releases.current() != release.name:
        await site.releases.point(release.name)
    if running is not None and running.release == release.name:
        return running
    await site.runtime.stop()
    return await site.runtime.start(site.launch(release))


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work` to its end, however often the caller is cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):  # told to stop again: it is being done
                await asyncio.wait({task})
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.warning("while the agent was stopped: %s", failure)
        raise
