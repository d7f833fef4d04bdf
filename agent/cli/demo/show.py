"""Plays the demo from the first line to the last, and ends it in order whatever happens."""

import asyncio
import signal
import sys
import time

import aiohttp

from agent.cli.demo.acts import Play
from agent.cli.demo.failure import DemoFailed
from agent.cli.demo.stage import Stage, set_up
from agent.cli.demo.telling import Telling
from agent.cli.demo.watch import Watch
from agent.core.errors import HomeportError


async def play(*, once: bool, port: int | None) -> int:
    """The exit status: 0 if every act ended as it must. SIGINT, SIGTERM and SIGHUP end it in order."""
    performance = asyncio.create_task(_perform(Telling(sys.stdout, time.monotonic), once=once, port=port))
    asked: list[int] = []

    def end(number: int) -> None:
        asked.append(number)
        if len(asked) == 1:  # a second one must not cut the tidying up short
            performance.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    return await performance


async def _perform(telling: Telling, *, once: bool, port: int | None) -> int:
    status = 1
    try:
        async with set_up(port) as stage:
            try:
                await _play_acts(stage, telling)
                status = 0
                if not once:
                    _tell_where(stage, telling)
                    await asyncio.Event().wait()
            except (DemoFailed, aiohttp.ClientError, TimeoutError) as error:
                status = 1
                _tell_failure(error, stage, telling)
            except asyncio.CancelledError:
                telling.line()
                telling.line("Ending: the agent, the service, the directory.")
    except asyncio.CancelledError:
        return 1  # asked to end before the stage was set
    except DemoFailed as error:
        _tell_failure(error, None, telling)
        return 1
    if status == 0:
        telling.line("Everything that was started is stopped.")
    return status


async def _play_acts(stage: Stage, telling: Telling) -> None:
    telling.line(
        "homeport demo: a git repository, a signed webhook, an agent, a service; all on this machine.", "bold"
    )
    telling.line(f"  agent {stage.url}   service {stage.service_url}   everything in {stage.root}", "dim")
    watch = Watch(stage.service_url)
    watching = asyncio.create_task(watch.run())
    began = time.monotonic()
    try:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            play = Play(stage, watch, session, telling)
            for number, (title, act) in enumerate(play.acts(), 1):
                with telling.act(number, title):
                    await act()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    telling.line()
    telling.line(f"All five acts ended as they must, in {time.monotonic() - began:.1f} s.", "bold green")


def _tell_where(stage: Stage, telling: Telling) -> None:
    telling.line(f"  dashboard     {stage.url}/#token={stage.token}")
    telling.line(f"  command line  homeport status --socket {stage.socket}")
    telling.line(f"  service       {stage.service_url}/")
    telling.line("Ctrl-C ends it and leaves nothing behind.")


def _tell_failure(error: Exception, stage: Stage | None, telling: Telling) -> None:
    message = error.message if isinstance(error, HomeportError) else str(error) or type(error).__name__
    telling.line(f"  NOT as it must: {message}", "bold red")
    details = error.details if isinstance(error, DemoFailed) else ""
    log = stage.log() if stage else ""
    for text in (details, log):
        for line in text.splitlines():
            telling.line(f"    {line}", "dim")
