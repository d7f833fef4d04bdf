"""The agent as a process: one for each state directory, with its signals and systemd around it.

SIGTERM and SIGINT end it in order; SIGHUP reloads the configuration file. SIGABRT is how systemd ends an agent that is
stuck: where each thread was is then written to the log (file and line, never a value).
"""

import asyncio
import faulthandler
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent import __version__
from agent.app import Agent, Load
from agent.core.pulse import told
from agent.core.settings import Settings
from agent.system import files, memory, notify
from agent.system.lock import StateLock
from agent.system.secrets import Secrets

log = logging.getLogger(__name__)


def serve(settings: Settings, secrets: Secrets, load: Load, file: Path) -> int:
    """The agent in the foreground, until SIGTERM or SIGINT; `load` reads `file` anew.

    Raises Unavailable or StepFailed if it cannot begin.
    """
    os.umask(0o027)
    faulthandler.enable()
    memory.return_large_blocks()
    memory.share_one_heap()
    state_dir = Path(settings.state_dir)
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = StateLock(state_dir)
    except OSError as error:
        raise files.translate(error, str(state_dir)) from error
    with lock:
        asyncio.run(_serve(Agent(settings, secrets, load, file)))
    log.info("homeport has ended; the services keep running")
    return 0


async def _serve(agent: Agent) -> None:
    stop = asyncio.Event()

    def ready() -> None:
        where = ", ".join(f"{name} {value}" for name, value in agent.server.context.listening.items())
        log.info("homeport %s is ready: %s", __version__, where)
        notify.ready(told(len(agent.roster.sites), {}))

    with _signals(stop, agent.reloading.ask):
        await agent.run(ready, stop)
    notify.stopping()


@contextmanager
def _signals(stop: asyncio.Event, reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`, SIGHUP calls `reload`."""
    loop = asyncio.get_running_loop()
    actions = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: reload}
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in actions:
            loop.remove_signal_handler(number)
