"""A command of a service that a probe runs: in the release, as the service would, and never twice at the same time.

Nothing of it is left running: it has a deadline, and its whole family ends with it. What a killed agent left behind
is ended before the same probe's first run.
"""

import asyncio
from hashlib import sha256
from pathlib import Path

from agent.adapters.probes.surroundings import Surroundings
from agent.core import settings
from agent.core.model import Launch
from agent.core.text import clean, tail
from agent.system import process
from agent.system.environment import of_a_child

_LIMIT = 8192
_SHOWN = 200


class Shell:
    """One line for /bin/sh. `options`: the probe's, which tell its processes from those of another probe."""

    def __init__(self, command: str, options: settings.ProbeOptions, surroundings: Surroundings) -> None:
        self._command = command
        self._surroundings = surroundings
        self._mark = ("HOMEPORT_PROBE", _identity(options, surroundings.directory))
        self._turn = asyncio.Lock()
        self._swept = False

    async def run(self, launch: Launch, deadline: float) -> process.Finished:
        """Runs it to its end. Raises OSError if it cannot be started."""
        name, value = self._mark
        mark = f"{name}={value}"
        known = self._surroundings
        variables = of_a_child(known.service, launch.revision, known.environment) | {name: value}
        async with self._turn:
            if not self._swept:
                await process.end_orphans(mark)
                self._swept = True
            # A shell, because the option is a shell's line; nothing from outside is put into it.
            argv = ("/bin/sh", "-c", self._command)
            return await process.run(
                argv, cwd=Path(launch.directory), env=variables, deadline=deadline, limit=_LIMIT, mark=mark
            )

    def shown(self, text: str) -> str:
        """The end of what it printed, on one line, without secrets."""
        # Hidden before the control characters go and after: either may have hidden it from the other.
        redact = self._surroundings.redact
        line = redact(clean(redact(text), _LIMIT))
        return line if len(line) <= _SHOWN else f"…{tail(line, _SHOWN)}"

    def __str__(self) -> str:
        return f"`{clean(self._surroundings.redact(self._command), 60)}`"


def how_it_ended(done: process.Finished) -> str:
    """The exit status, or the signal, in words."""
    return f"exit status {done.status}" if done.status >= 0 else f"ended by signal {-done.status}"


def _identity(options: settings.ProbeOptions, directory: Path) -> str:
    """No two probes of a service are the same (`core.probing`), and no two services share a directory, also not those
    of two agents: so nobody else's processes carry the mark."""
    return sha256(f"{directory} {options!r}".encode()).hexdigest()[:16]
