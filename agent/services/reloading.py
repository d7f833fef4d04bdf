"""Takes up a changed configuration file, whole or not at all, one reload after the other.

An invalid file changes nothing: the settings in force stay, and it is told at every place where somebody may look,
until a reload succeeds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Generic, TypeVar

from agent.core import patience
from agent.core.errors import ConfigError, HomeportError, Problem, Unavailable
from agent.core.ports import Clock
from agent.core.reload import ConfigStatus, Reloaded
from agent.services.heartbeat import at_rest, within
from agent.store.events import EventLog

log = logging.getLogger(__name__)

T = TypeVar("T")

SETTLE_SECONDS = 0.2
"""So long nobody may have written the file: an editor may be half-way through it."""
SETTLE_TRIES = 25


class Reloading(Generic[T]):
    """The file and what is in force of it.

    `stamp` is another value whenever the file was written. `load` reads and checks the file as a whole; it raises
    ConfigError with every problem. `apply` puts what was loaded in force in one go; if it raises, nothing changed. It
    may raise ConfigError as well: what the file says is right, and cannot count yet.
    """

    def __init__(
        self,
        file: str,
        *,
        stamp: Callable[[], Awaitable[object]],
        load: Callable[[], Awaitable[T]],
        apply: Callable[[T], Awaitable[Reloaded]],
        events: EventLog,
        clock: Clock,
    ) -> None:
        self._stamp = stamp
        self._load = load
        self._apply = apply
        self._events = events
        self._clock = clock
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        self._status = ConfigStatus(file=file, loaded_at=clock.now())

    def status(self) -> ConfigStatus:
        """Which configuration is in force."""
        return self._status

    def ask(self) -> None:
        """A reload soon, by a signal. Several at once are one."""
        self._asked.set()

    async def run(self) -> None:
        """Does what `ask` asked for, until it is cancelled."""
        while True:
            at_rest()
            await self._asked.wait()
            self._asked.clear()
            within(patience.FILES)
            try:
                await self.reload("SIGHUP")
            except HomeportError as error:
                log.error("the configuration was not reloaded: %s", error)

    async def reload(self, actor: str) -> Reloaded:
        """Reads the file and puts it in force. Raises ConfigError (it is invalid) and Unavailable; then nothing
        changed."""
        async with self._turn:
            try:
                done = await self._apply(await self._read())
            except ConfigError as error:
                await self._refuse(error, actor)
                raise
            self._status = ConfigStatus(file=done.file, loaded_at=done.loaded_at)
            log.info(
                "%s is in force: added %s, changed %s, removed %s",
                done.file, *(", ".join(names) or "nothing" for names in (done.added, done.changed, done.removed)),
            )  # fmt: skip
            await self._record(
                "config.reloaded",
                {"actor": actor, "added": done.added, "changed": done.changed, "removed": done.removed},
            )
            return done

    async def _read(self) -> T:
        """What the file says, once nobody is writing it. A half of it may look like a whole one."""
        for _ in range(SETTLE_TRIES):
            before = await self._stamp()
            await self._clock.sleep(SETTLE_SECONDS)
            if await self._stamp() != before:
                continue
            try:
                loaded = await self._load()
            except ConfigError:
                if await self._stamp() == before:
                    raise
            else:
                if await self._stamp() == before:
                    return loaded
        problem = Problem("", "is being written all the while", hint="try again when it has been saved")
        raise ConfigError([problem], file=self._status.file)

    async def _refuse(self, error: ConfigError, actor: str) -> None:
        problems = tuple(asdict(problem) for problem in error.problems)
        self._status = ConfigStatus(
            file=self._status.file, loaded_at=self._status.loaded_at, stale=True, problems=problems
        )
        first = error.problems[0]
        log.error(
            "%s; the old settings stay in force; the first in line %s: %s %s",
            error.message, first.line or "-", first.path, first.message,
        )  # fmt: skip
        await self._record("config.invalid", {"actor": actor, "problems": problems})

    async def _record(self, event: str, data: dict[str, object]) -> None:
        """What happened has happened, also if its event cannot be written now."""
        try:
            await self._events.record(event, self._clock.now(), data=data)
        except Unavailable as problem:
            log.error("%s is not in the event log: %s", event, problem)
