"""The service is a template unit of which one instance serves behind nginx, and the next version starts beside it.

- `/srv/<name>/blue` and `/srv/<name>/green` are links to releases, as `current` is one. A link is there only as long as
  that instance is to run: what is enabled starts at a boot what served before it.
- What decides who serves is nginx's upstream file, which root writes (`core.upstreams`). `serving` in the agent's state
  is what was proven through nginx last.
- Each act looks first what is there: after a cut at any point the same acts lead to the same end.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace as changed

from agent.adapters.runtimes.swap import Swap
from agent.adapters.runtimes.systemd import SystemdRuntime
from agent.core import settings
from agent.core.colours import Colour, Side, chosen, instance, lacking, meant, port_of
from agent.core.errors import StepFailed
from agent.core.model import Launch, Running
from agent.core.ports import Clock
from agent.system import connections, files, memory
from agent.system.threads import in_thread
from agent.system.units import UnitError, Units

UNKNOWN_MEMORY = 64 << 20
"""Bytes: what a copy counts where systemd does not count it, as on a Raspberry Pi without `cgroup_enable=memory`."""
DRAIN_LOOK = 0.25
QUIET = 1.0
"""Seconds without a connection after which nobody is taken to be on the way any more."""
_RELEASES = "releases/"

Wanted = Callable[[], Awaitable[bool]]
"""Whether what is to end is wanted back."""


@dataclass(frozen=True)
class Seen:
    """What is there: both sides, who serves, and what runs by colour."""

    sides: Mapping[Colour, Side]
    serving: Colour | None
    running: Mapping[Colour, Running | None]
    current: str | None

    @property
    def meant(self) -> Colour:
        """The colour of whoever asks about the service."""
        return meant(self.current, self.sides, self.serving)


class BlueGreen:
    """`core.ports.Runtime` and `core.ports.Beside` for `deploy: {strategy: blue-green}`."""

    def __init__(
        self,
        options: settings.SystemdRuntime,
        rules: settings.BlueGreen,
        swap: Swap,
        *,
        state: Path,
        directory: Path,
        units: Units,
        clock: Clock,
        redact: Callable[[str], str] = str,
        embedded: Callable[[], Awaitable[None]] | None = None,
        journal: Sequence[str] = ("journalctl",),
    ) -> None:
        self._rules = rules
        self._swap = swap
        self._directory = directory
        self._units = units
        self._clock = clock
        self._embedded = embedded
        self._turn = asyncio.Lock()
        self._names = {colour: instance(options.unit, colour) for colour in Colour}
        self._runtimes = {
            colour: SystemdRuntime(
                changed(
                    options,
                    unit=self._names[colour],
                    environment=options.environment | {"PORT": str(port_of(colour, rules.ports))},
                ),
                state=state / colour, directory=directory, link=directory / colour, units=units,
                redact=redact, journal=journal,
            )
            for colour in Colour
        }  # fmt: skip

    # --- the runtime

    async def look(self) -> Running | None:
        """See the port: the instance of what `current` names; where there is none, the one that serves."""
        seen = await self._seen()
        return seen.running[seen.meant]

    async def check(self, launch: Launch) -> None:
        """See the port. Raises also swap-not-installed, and port-in-use if somebody else listens at its port."""
        await self._swap.check()
        seen = await self._seen()
        colour = chosen(launch.release, seen.sides, seen.serving)
        if seen.running[colour] is None:
            await self._demand_port(colour)
        await self._runtimes[colour].check(launch)

    async def start(self, launch: Launch) -> Running:
        """See the port, but beside another release that serves. Raises as `SystemdRuntime.start`, and port-in-use."""
        async with self._turn:
            seen = await self._seen()
            colour = chosen(launch.release, seen.sides, seen.serving)
            if colour is seen.serving:  # what was tried beside it is not needed any more
                await self._end(colour.other)
            running = seen.running[colour]
            if running is not None and running.release == launch.release:
                await self._link(colour, launch)  # whoever was about to end is wanted again
                return running
            if running is not None:
                await self._runtimes[colour].stop()
            await self._demand_port(colour)
            await self._link(colour, launch)
            return await self._runtimes[colour].start(launch)

    async def stop(self) -> None:
        """See the port: both end, and a boot starts neither."""
        async with self._turn:
            if self._embedded is not None:
                await self._embedded()
            for colour in Colour:
                await self._end(colour)

    async def recovers(self) -> bool:
        """See the port."""
        return await self._runtimes[(await self._seen()).meant].recovers()

    async def listens(self, host: str, port: int) -> bool | None:
        """See the port."""
        return await self._runtimes[(await self._seen()).meant].listens(host, port)

    async def output(self) -> str:
        """See the port."""
        return await self._runtimes[(await self._seen()).meant].output()

    async def colour_of(self, launch: Launch) -> Colour:
        """Whom a probe of this launch asks. Light: it asks nobody but the disk."""
        named = await in_thread(self._links)
        return next((colour for colour in Colour if named[colour] == launch.release), Colour.BLUE)

    # --- side by side

    async def refuses(self, launch: Launch) -> str:
        """See `core.ports.Beside`."""
        seen = await self._seen()
        running = [colour for colour, found in seen.running.items() if found is not None]
        if not running or any(side.running == launch.release for side in seen.sides.values()):
            return ""
        need = self._rules.memory
        if need is None:
            used = [await self._memory(colour) for colour in running]
            need = settings.Bytes(max(used))
        available = await in_thread(memory.available)
        colour = chosen(launch.release, seen.sides, seen.serving)
        if available is not None and seen.running[colour] is not None:  # it ends before
            available += await self._memory(colour)
        return lacking(need, available)

    async def promote(self, launch: Launch) -> str:
        """See `core.ports.Beside`. Raises nginx-refused, nginx-unanswered, swap-not-installed, unit-refused ..."""
        async with self._turn:
            seen = await self._seen()
            runs = [colour for colour, side in seen.sides.items() if side.running == launch.release]
            if not runs:
                raise StepFailed("process-died", f"{launch.release} ended before users were sent to it")
            colour, _ = runs[0], await self._swap.settled()
            beside = seen.running[colour.other] is not None
            return await self._swap.to(colour, back=colour.other if beside else None)

    async def retire(self, wanted: Wanted) -> bool:
        """See `core.ports.Beside`."""
        async with self._turn:
            if self._embedded is not None:
                await self._embedded()
            seen = await self._seen()
            keep = seen.meant
            other = seen.sides[keep.other]
            alone = other.named is None and other.running is None
            if seen.current is None:
                return True
            if seen.sides[keep].running != seen.current:
                if alone:
                    return True
                raise StepFailed(
                    "process-died", f"{seen.current} does not run: nothing can take the other's place"
                )
            if await self._swap.settled() is not keep:
                await self._swap.to(keep, back=None)
            if alone:
                return True
            await self._unlink(keep.other)
            if other.running is not None and not await self._drain(keep.other, wanted):
                return False
            await self._runtimes[keep.other].stop()
            return True

    async def _drain(self, colour: Colour, wanted: Wanted) -> bool:
        """Waits until nobody is connected any more, and nobody will be: nginx's old workers go on with their guests.
        False: it is wanted back before."""
        port, began = port_of(colour, self._rules.ports), self._clock.monotonic()
        quiet = began
        while (now := self._clock.monotonic()) - began < self._rules.drain and now - quiet < QUIET:
            if await wanted():
                return False
            if await in_thread(connections.to_port, port) or await self._swap.guests():
                quiet = now
            await self._clock.sleep(DRAIN_LOOK)
        return True

    # --- parts

    async def _seen(self) -> Seen:
        named = await in_thread(self._links)
        looks = [self._runtimes[colour].look() for colour in Colour]
        running = dict(zip(Colour, await asyncio.gather(*looks), strict=True))
        sides = {
            colour: Side(named=named[colour], running=found.release if found is not None else None)
            for colour, found in running.items()
        }
        return Seen(sides, await self._swap.serving(), running, named[None])

    def _links(self) -> dict[Colour | None, str | None]:
        """What the links name: those of the colours, and under None `current`."""
        found: dict[Colour | None, str | None] = {}
        for colour in (None, *Colour):
            found[colour] = None
            with contextlib.suppress(FileNotFoundError, OSError):
                found[colour] = (self._directory / (colour or "current")).readlink().name
        return found

    async def _end(self, colour: Colour) -> None:
        """Nothing of this colour runs, nor will at a boot."""
        await self._unlink(colour)
        await self._runtimes[colour].stop()

    async def _link(self, colour: Colour, launch: Launch) -> None:
        """A boot starts this release in this colour."""
        named = (await in_thread(self._links))[colour]
        if named != launch.release:
            await self._write(files.link_atomic, f"{_RELEASES}{launch.release}", self._directory / colour)

    async def _unlink(self, colour: Colour) -> None:
        await self._write(_remove, self._directory / colour)

    async def _demand_port(self, colour: Colour) -> None:
        port = port_of(colour, self._rules.ports)
        if await in_thread(connections.is_taken, port):
            raise StepFailed(
                "port-in-use", f"somebody else listens at port {port}, which is that of {self._names[colour]}"
            )

    async def _memory(self, colour: Colour) -> int:
        try:
            return await self._units.memory(self._names[colour]) or UNKNOWN_MEMORY
        except UnitError:  # whoever cannot be asked here is asked to start it next, and tells then
            return UNKNOWN_MEMORY

    async def _write(self, act: Callable[..., None], *arguments: object) -> None:
        try:
            await in_thread(act, *arguments)
        except OSError as error:
            raise files.translate(error, str(arguments[-1])) from error


def _remove(link: Path) -> None:
    files.remove_asides(link)
    if link.is_symlink():
        link.unlink()
        files.fsync_directory(link.parent)
