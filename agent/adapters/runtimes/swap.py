"""Which colour nginx sends a service's users to: read from its upstream file, and changed by a unit of root's.

The unit says how it went by its result, and nginx's own words stand in the journal. What it wrote is proven through
nginx before it counts.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agent.adapters.runtimes.systemd import SystemdRuntime
from agent.core import settings, upstreams
from agent.core.colours import Colour, port_of
from agent.core.errors import StepFailed
from agent.core.ports import Clock
from agent.core.text import clean
from agent.system import connections, files
from agent.system.threads import in_thread
from agent.system.units import UnitError, Units, Verb, Why
from agent.system.upstream import REFUSED

ANSWERS = 3
"""In a row, until the new colour counts as reached through nginx."""
ANSWER_PAUSE = 0.3
TRIES = 10
"""After a reload old and new workers answer for a moment."""
SWAP_SECONDS = 60.0
SETTLE_LOOK = 0.2

Complaint = Callable[[], Awaitable[str]]
"""Asks through nginx: what is wrong, or "" for a good answer."""


class Swap:
    """Of one service. `front` is the port at which users ask nginx; `noted` is the file that keeps what was proven
    last; `table` and `place` are root's."""

    def __init__(
        self,
        service: str,
        ports: upstreams.Ports,
        *,
        front: int,
        noted: Path,
        units: Units,
        clock: Clock,
        complaint: Complaint,
        redact: Callable[[str], str] = str,
        journal: Sequence[str] = ("journalctl",),
        table: Path = Path(upstreams.TABLE),
        place: Path = Path(upstreams.PLACE),
    ) -> None:
        self._service = service
        self._ports = ports
        self._front = front
        self._guests: frozenset[str] | None = None
        self._noted = noted
        self._units = units
        self._clock = clock
        self._complaint = complaint
        self._table = table
        self._file = place / Path(upstreams.path_of(service)).name
        self._runs = {
            colour: SystemdRuntime(
                settings.SystemdRuntime(unit=upstreams.unit_of(service, colour)),
                state=noted.parent, directory=noted.parent, units=units, redact=redact,
                journal=journal,
            )
            for colour in Colour
        }  # fmt: skip

    async def serving(self) -> Colour | None:
        """Who serves, as the upstream's file says; if that is not whole, who was proven last; None: nobody yet."""
        return await in_thread(self._serving)

    async def settled(self) -> Colour | None:
        """The same, once no swap is under way: an agent that was killed may have begun one."""
        for colour in Colour:
            for _ in range(int(SWAP_SECONDS / SETTLE_LOOK)):
                if (await self._look(colour)) not in ("activating", "deactivating"):
                    break
                await self._clock.sleep(SETTLE_LOOK)
        return await self.serving()

    async def check(self) -> None:
        """Whether there is all that a swap needs. Raises swap-not-installed."""
        unit = upstreams.unit_of(self._service, Colour.BLUE)
        try:
            load = (await self._units.look(unit)).load
            text = await in_thread(self._table.read_text, "utf-8")
        except UnitError as error:
            raise _translated(unit, error) from error
        except OSError as error:
            raise StepFailed("swap-not-installed", f"{self._table}: {error.strerror}") from error
        if load != "loaded":
            raise StepFailed("swap-not-installed", f"systemd has no unit {unit}: {load}")
        if upstreams.ports_in(text, self._service) != self._ports:
            raise StepFailed("swap-not-installed", f"{self._table} has other ports for {self._service}")

    async def to(self, colour: Colour, *, back: Colour | None) -> str:
        """nginx sends users to this colour, and it was seen that they get there; a sentence about it.

        Where they do not, it goes back to `back`, if that is somebody. Raises nginx-refused, nginx-unanswered ...
        """
        where = f"nginx sends users to {colour} (port {port_of(colour, self._ports)})"
        if await in_thread(self._read_file) is colour and await in_thread(self._proven) is colour:
            return f"{where}, as before"
        await self._order(colour)
        self._guests = None
        await self.guests()
        try:
            await self._prove(colour)
        except StepFailed as failure:
            if back is not None:
                await self._back(back, failure)
            raise
        await self._note(colour)
        return where

    async def guests(self) -> frozenset[str]:
        """Who of those that were connected to nginx at the last swap still is. Its workers from before go on with them,
        and know only whom they sent users to then: an upload gets there when it is whole. An agent that did not see the
        swap takes all that are connected now."""
        now = await in_thread(connections.clients_of, self._front)
        self._guests = now if self._guests is None else self._guests & now
        return self._guests

    async def _order(self, colour: Colour) -> None:
        unit = upstreams.unit_of(self._service, colour)
        try:
            result = await self._units.call(Verb.START, unit, patience=SWAP_SECONDS)
        except UnitError as error:
            raise _translated(unit, error) from error
        if result != "done":
            output = await self._runs[colour].output()
            said = [line for line in output.splitlines() if line.startswith(REFUSED)]
            text = said[-1].removeprefix(REFUSED) if said else f"{unit} ended with {result}"
            raise StepFailed("nginx-refused", clean(text, 400), output=output)

    async def _back(self, colour: Colour, why: StepFailed) -> None:
        """Raises the first failure with the second one's words, if that is one too."""
        try:
            await self._order(colour)
        except StepFailed as failure:
            text = clean(f"{why.message}; and nginx did not go back to {colour}: {failure.message}", 500)
            raise StepFailed(why.code, text, output=failure.output) from failure

    async def _prove(self, colour: Colour) -> None:
        """So many good answers in a row, soon."""
        in_a_row, wrong = 0, ""
        for _ in range(TRIES):
            complaint = await self._complaint()
            in_a_row, wrong = (in_a_row + 1, wrong) if not complaint else (0, complaint)
            if in_a_row == ANSWERS:
                return
            await self._clock.sleep(ANSWER_PAUSE)
        text = f"users do not reach {colour} through nginx: {wrong}"
        raise StepFailed("nginx-unanswered", clean(text, 500))

    async def _look(self, colour: Colour) -> str:
        unit = upstreams.unit_of(self._service, colour)
        try:
            return (await self._units.look(unit)).active
        except UnitError as error:
            raise _translated(unit, error) from error

    async def _note(self, colour: Colour) -> None:
        try:
            await in_thread(self._write, colour)
        except OSError as error:
            raise files.translate(error, str(self._noted)) from error

    # --- what blocks

    def _serving(self) -> Colour | None:
        return self._read_file() or self._proven()

    def _read_file(self) -> Colour | None:
        try:
            text = self._file.read_text("utf-8", errors="replace")
        except OSError:
            return None
        return upstreams.served_by(text, self._service, self._ports)

    def _proven(self) -> Colour | None:
        try:
            return Colour(self._noted.read_text("ascii"))
        except (OSError, ValueError):
            return None

    def _write(self, colour: Colour) -> None:
        self._noted.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.remove_asides(self._noted)
        files.write_atomic(self._noted, colour.encode("ascii"))


def _translated(unit: str, error: UnitError) -> StepFailed:
    text = clean(f"{unit}: {error}", 512)
    if error.why is Why.UNKNOWN:
        return StepFailed("swap-not-installed", text)
    return StepFailed(error.code, text)
