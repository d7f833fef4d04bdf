"""The units in which one service's builds and migrations run, homeport-build@NAME.service say: the agent may start and
stop them.

It is told a release (a link in the service's directory) and an act (a file beside it); what may be run stands in a file
of root's. What it prints is read from /run. Everything there belongs to whoever built: no link in it is followed.
"""

import contextlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.transcript import LIMIT
from agent.core import isolation
from agent.core.errors import StepFailed
from agent.core.text import clean
from agent.system import access, files, isolated, process
from agent.system.threads import to_its_end
from agent.system.units import UnitError, Units, UnitState, Verb, Why

log = logging.getLogger(__name__)

STOP_SECONDS = 420.0
"""The unit's own TimeoutStopSec= bounds its end, three times."""
GIVE_BACK_SECONDS = 1800.0


@dataclass(frozen=True)
class Result:
    """How the last command ended: which one, its status, and whether the kernel took its memory away."""

    command: int
    status: int
    out_of_memory: bool = False


class Workshop:
    """`directory` is the service's; `user` is the number of the user that builds, None where there is none. `template`
    and `output` are those of builds, or of migrations."""

    def __init__(
        self,
        service: str,
        directory: Path,
        units: Units,
        user: int | None,
        *,
        template: str = isolation.TEMPLATE,
        recipes: Path = Path(isolation.RECIPES),
        output: Path = Path(isolation.OUTPUT),
    ) -> None:
        self.unit = isolation.unit_of(service, template)
        self._directory = directory
        self._units = units
        self._user = user
        self._recipe = recipes / Path(isolation.recipe_path(service)).name
        self._output = output / service
        self._run = ""

    # --- a build

    def demand(self, recipe: str) -> None:
        """Raises build-not-prepared unless root has allowed this very recipe. Blocks."""
        try:
            allowed = self._recipe.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            message = f"builds are to be isolated, and {self._recipe} cannot be read: {clean(str(error))}"
            raise StepFailed("build-not-prepared", message) from error
        if allowed != recipe:
            message = f"the configuration of the build is another one than {self._recipe} allows"
            raise StepFailed("build-not-prepared", message)

    async def ask(self, place: Path, act: str, *, revision: str = "", recipe: str = "") -> None:
        """Writes down what the unit is to do next, and where. Raises StepFailed."""
        self._run = secrets.token_hex(8)
        request = {
            "act": act, "revision": revision, "recipe": isolation.digest(recipe), "run": self._run,
        }  # fmt: skip
        try:
            await to_its_end(self._write, place, json.dumps(request).encode())
        except OSError as error:
            raise files.translate(error, f"asking {self.unit}") from error

    async def start(self, patience: float) -> str:
        """Returns the job's result when the unit has ended. Raises UnitError: STUCK after `patience` seconds."""
        return await self._units.call(Verb.START, self.unit, patience=patience)

    async def stop(self) -> None:
        """Ends it if it runs, or is to be started; nothing of it is left when this returns. Raises StepFailed."""
        try:
            await self._units.call(Verb.STOP, self.unit, patience=STOP_SECONDS)
        except UnitError as error:
            if error.why is not Why.UNKNOWN:
                raise self.translated(error) from error

    async def look(self) -> UnitState:
        """How it ended; what systemd remembers of a failure is forgotten then. Raises StepFailed."""
        try:
            state = await self._units.look(self.unit)
            with contextlib.suppress(UnitError):  # only for who reads `systemctl --failed`
                await self._units.call(Verb.RESET_FAILED, self.unit, patience=STOP_SECONDS)
        except UnitError as error:
            raise self.translated(error) from error
        return state

    def translated(self, error: UnitError) -> StepFailed:
        """What systemd answered, as a step's failure."""
        text = clean(f"{self.unit}: {error}", 512)
        return StepFailed("build-not-prepared" if error.why is Why.UNKNOWN else error.code, text)

    # --- what it says

    def printed(self, most: int) -> Sequence[bytes]:
        """The end of what each command has printed so far, of those that were begun, `most` at most. Blocks."""
        found: list[bytes] = []
        if not self._has_begun():
            return found
        while len(found) < most and (data := self._read(f"{isolated.OUTPUT}{len(found)}")) is not None:
            found.append(data)
        return found

    def result(self) -> Result | None:
        """How the last command ended; None if that is not known. Blocks."""
        if not self._has_begun():
            return None
        try:
            said = json.loads(self._read(isolated.RESULT) or b"")
            return Result(int(said["command"]), int(said["status"]), bool(said["out_of_memory"]))
        except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
            return None

    # --- hands in releases, for `adapters.releases`

    async def end(self, place: Path) -> None:
        """Whoever an agent that was killed has left at work in this release is ended."""
        await process.end_orphans(process.mark_of(place))
        if self._link_says() == place.name:
            await self.stop()

    async def give_back(self, place: Path) -> bool:
        """What the agent cannot remove there is removed."""
        await self.stop()
        if not await to_its_end(self._limit, place, access.ALL):
            return False
        await self.ask(place, "give-back")
        try:
            result = await self.start(GIVE_BACK_SECONDS)
        except UnitError as error:
            raise self.translated(error) from error
        return result == "done"

    def close(self, place: Path) -> None:
        """No build may enter any more: what it made there is its user's, which could write into it."""
        self._limit(place, access.NOTHING)

    def show(self, place: Path) -> None:
        """A build may enter: its unit lets it write nowhere but in its own release."""
        self._limit(place, access.READ)

    # --- what blocks

    def _limit(self, place: Path, rights: int) -> bool:
        return self._user is not None and access.limit(place, self._user, rights)

    def _write(self, place: Path, request: bytes) -> None:
        link, beside = self._directory / isolation.LINK, self._directory / isolation.REQUEST
        for path in (link, beside):
            files.remove_asides(path)
        files.write_atomic(beside, request)
        beside.chmod(0o644)  # everybody may read it, whatever the umask or an access list says
        files.link_atomic(f"releases/{place.name}", link)

    def _link_says(self) -> str:
        try:
            return (self._directory / isolation.LINK).readlink().name
        except OSError:
            return ""

    def _has_begun(self) -> bool:
        """Whether what stands there is of this run, and not of the one before."""
        return self._read(isolated.RUN) == self._run.encode()

    def _read(self, name: str) -> bytes | None:
        """The end of a plain file of the unit's; None if there is none."""
        try:
            above = os.open(self._output, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                handle = os.open(name, flags, dir_fd=above)
            finally:
                os.close(above)
        except OSError:
            return None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            return None
        with os.fdopen(handle, "rb", buffering=0) as file:
            file.seek(max(found.st_size - LIMIT, 0))
            return file.read(LIMIT) or b""
