"""A time that the service writes down must not be long ago: read out of its database, or printed by a command.

It says that the service does its work, not only that it answers. In a deployment it says so of the new version only
once what the old one wrote is older than `max_age`.
"""

import asyncio
import threading
from pathlib import Path

from agent.adapters.probes.shell import Shell, how_it_ended
from agent.adapters.probes.surroundings import Surroundings
from agent.core import settings
from agent.core.freshness import judge
from agent.core.model import Launch, Probed
from agent.core.text import clean
from agent.system import sqlite
from agent.system.threads import aside

_MARGIN = 1.0  # a query ends by itself at its deadline, unless the disk hangs


class _NoTime(Exception):
    """Why there is no time to judge, as a sentence."""


class FreshnessProbe:
    """`core.ports.Probe` for `{kind: freshness}`."""

    address: tuple[str, int] | None = None

    def __init__(self, options: settings.FreshnessProbe, surroundings: Surroundings) -> None:
        self._options = options
        self._surroundings = surroundings
        self._shell = Shell(options.command, options, surroundings) if options.command else None
        self._turn = asyncio.Lock()
        self._question: asyncio.Task[object] | None = None

    async def ask(self, launch: Launch) -> Probed:
        """See `core.ports.Probe`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            value = await (self._printed(self._shell, launch) if self._shell else self._stored_in_turn())
            healthy, detail = judge(value, self._surroundings.clock.now(), self._options.max_age)
        except (_NoTime, sqlite.Unanswered) as reason:
            healthy, detail = False, str(reason)
        where = str(self._shell) if self._shell else f"{self._options.sqlite}"
        told = self._surroundings.redact(f"{where}: {detail}")
        return Probed(healthy=healthy, detail=told, seconds=loop.time() - began)

    async def _printed(self, shell: Shell, launch: Launch) -> str | None:
        """The last line that the command printed."""
        try:
            done = await shell.run(launch, self._options.timeout)
        except OSError as error:
            raise _NoTime(f"cannot be started: {error.strerror}") from error
        if done.timed_out:
            raise _NoTime(f"not done within {self._options.timeout:g} s")
        if done.status != 0:
            raise _NoTime(f"{how_it_ended(done)}: {shell.shown(done.text)}")
        lines = [line.strip() for line in done.text.splitlines() if line.strip()]
        return clean(lines[-1]) if lines else None

    async def _stored_in_turn(self) -> object:
        """What the query gives. While one hangs, no further one is begun; one that was cancelled ends soon."""
        async with self._turn:
            if self._question is not None:
                _, hanging = await asyncio.wait({self._question}, timeout=_MARGIN)
                if hanging:
                    raise _NoTime("the last query has not come back yet: does its disk answer?")
            return await self._stored()

    async def _stored(self) -> object:
        options, stop = self._options, threading.Event()
        database = Path(self._surroundings.directory, options.sqlite or "")
        self._question = asyncio.create_task(
            aside(sqlite.value, database, options.query or "", seconds=options.timeout, stopped=stop.is_set)
        )
        self._question.add_done_callback(_taken)
        try:
            done, _ = await asyncio.wait({self._question}, timeout=options.timeout + _MARGIN)
        finally:
            stop.set()
        if not done:
            raise _NoTime(f"no answer within {options.timeout:g} s")
        return self._question.result()


def _taken(question: "asyncio.Task[object]") -> None:
    """What nobody waits for any more may fail."""
    if not question.cancelled():
        question.exception()
