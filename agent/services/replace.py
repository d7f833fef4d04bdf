"""The switch: `current` names another release, the old process ends, the new one starts.

This is the only place in which a service stands still, so once begun it is finished, also when the agent is told
to stop in the middle of it. Run twice, it leaves alone what already runs.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.core import patience
from agent.core.model import Launch, Release, Running
from agent.services.heartbeat import within
from agent.services.site import Site

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replaced:
    """What runs now, and how it came to that, in a few words: "" where there is nothing to say."""

    running: Running
    how: str = ""


async def demand(site: Site, launch: Launch) -> None:
    """Before anything is switched: the runtime has what it needs, and the service would not run twice. Raises
    StepFailed."""
    await site.alone()
    await site.runtime.check(launch)


async def replace(site: Site, release: Release) -> Replaced:
    """Makes `release` the one that runs and that `current` names. Raises StepFailed.

    A process that runs this very release keeps running: that is how a rollback from a switch that did not get far
    costs the service nothing. Side by side what served before keeps running as well, until `promote` and `retire`.
    """
    within(patience.switching(site.settings.runtime), "switching")
    return await finish(_replace(site, release))


async def promote(site: Site, launch: Launch) -> str:
    """Side by side: users are sent to what has proven itself. What to add to its detail. Raises StepFailed."""
    if site.beside is None:
        return ""
    within(patience.PROMOTING, "promoting")
    return f"; {await site.beside.promote(launch)}"


async def _replace(site: Site, release: Release) -> Replaced:
    await site.room()
    running = (
        await site.runtime.look()
    )  # before `current` changes: what somebody else started runs what it names
    if running is None:
        await site.alone()
    if await site.releases.current() != release.name:
        await site.releases.point(release.name)
    if running is not None and running.release == release.name:
        return Replaced(running)
    launch = site.launch(release)
    refused = await site.beside.refuses(launch) if site.beside is not None else None
    if refused != "":
        await site.runtime.stop()
    return Replaced(await site.runtime.start(launch), f"restarted: {refused}" if refused else "")


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
