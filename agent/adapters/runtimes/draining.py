"""Before a service of the embedded mode is stopped: it ends the job at hand, if the configuration says how.

Whatever comes of it, the service is stopped afterwards. After a kill of the agent in the middle it is done again, so
signal and command must bear that.
"""

import logging
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.core.settings import Drain
from agent.core.text import clean
from agent.system import process
from agent.system.family import Family, tell

log = logging.getLogger(__name__)


async def drain(
    options: Drain, family: Family, environment: Mapping[str, str], service: str, redact: Callable[[str], str]
) -> None:
    """Takes at most `options.timeout`. A signal is answered by the end of the service's process, a command by its own
    end. What goes wrong is logged."""
    if options.signal is not None:
        if not await tell(family, getattr(signal, options.signal), patience=options.timeout):
            log.warning("%s has not ended %g s after %s", service, options.timeout, options.signal)
        return
    assert options.command is not None, "one of both: core.deploying"
    problem = await _run(options.command, options.timeout, family.directory, environment)
    if problem:
        log.warning("%s: the drain command %s", service, clean(redact(problem), 256))


async def _run(command: str, timeout: float, directory: Path, environment: Mapping[str, str]) -> str:
    """What went wrong; "" if nothing did. Nothing of it is left running."""
    name, value = process.mark_of(directory).split("=", 1)
    try:
        done = await process.run(
            ["/bin/sh", "-c", command], cwd=directory, env={**environment, name: value}, deadline=timeout,
            mark=f"{name}={value}",
        )  # fmt: skip
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    if done.timed_out:
        return f"has not ended within {timeout:g} s: {done.text}"
    return f"ended with status {done.status}: {done.text}" if done.status else ""
