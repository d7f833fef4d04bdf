"""systemd through its program, where no system bus answers; and through sudo, where polkit does not know the agent.

sudo is asked with exact command lines (`/usr/bin/systemctl restart scraper.service`), as `homeport install` allows them
in sudoers where there is no polkit.
"""

from collections.abc import Sequence
from pathlib import Path

from agent.system import environment, process
from agent.system.threads import in_thread
from agent.system.units import OF_SERVICE, OF_UNIT, UnitError, UnitState, Verb, Why, bytes_of, state_of

SYSTEMCTL = "/usr/bin/systemctl"
LOOK_SECONDS = 10.0
_SIGNS = (
    ("not found", Why.UNKNOWN),
    ("not loaded", Why.UNKNOWN),
    ("bad unit file setting", Why.UNKNOWN),
    ("is masked", Why.MASKED),
    ("access denied", Why.REFUSED),
    ("authentication", Why.REFUSED),
    ("permission denied", Why.REFUSED),
    ("a password is required", Why.REFUSED),
    ("not allowed to execute", Why.REFUSED),
    ("not in the sudoers", Why.REFUSED),
    ("no new privileges", Why.REFUSED),
    ("failed to connect to bus", Why.UNREACHABLE),
    ("not been booted with systemd", Why.UNREACHABLE),
    ("connection refused", Why.UNREACHABLE),
)
"""What it prints, in English (LC_ALL=C), for each reason; the first that fits counts."""


class CommandUnits:
    """`system.units.Units` by command. `before` stands before the verbs, `("sudo", "-n")` say."""

    def __init__(self, before: Sequence[str] = (), program: str = SYSTEMCTL) -> None:
        self._before = tuple(before)
        self._program = program

    async def look(self, unit: str) -> UnitState:
        """See the protocol."""
        names = ",".join((*OF_UNIT, *OF_SERVICE))
        text = await self._run([self._program, "show", f"--property={names}", "--", unit], LOOK_SECONDS)
        return state_of(dict(line.split("=", 1) for line in text.splitlines() if "=" in line))

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        """See the protocol. systemctl does not tell a job's result but by its exit status: `failed` is any but done."""
        try:
            await self._run([*self._before, self._program, str(verb), unit], patience)
        except UnitError as error:
            if error.why is Why.FAILED:
                return "failed"
            raise
        return "done"

    async def memory(self, unit: str) -> int | None:
        """See the protocol."""
        command = [self._program, "show", "--property=MemoryCurrent,ControlGroup", "--", unit]
        text = await self._run(command, LOOK_SECONDS)
        shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return await in_thread(bytes_of, shown.get("MemoryCurrent"), shown.get("ControlGroup", ""))

    async def close(self) -> None:
        """See the protocol: nothing is held."""

    async def _run(self, command: Sequence[str], patience: float) -> str:
        env = {"PATH": environment.PATH, "LC_ALL": "C", "SYSTEMD_PAGER": ""}
        try:
            done = await process.run(command, cwd=Path("/"), env=env, deadline=patience)
        except OSError as error:
            raise UnitError(Why.UNREACHABLE, f"{command[0]}: {error.strerror}") from error
        if done.timed_out:
            raise UnitError(Why.STUCK, f"{' '.join(command)} has not ended after {patience:.0f} s")
        if done.status != 0:
            raise UnitError(why_of(done.text), done.text.strip() or f"exit status {done.status}")
        return done.text


def why_of(printed: str) -> Why:
    """The reason that systemctl or sudo printed."""
    said = printed.lower()
    return next((why for sign, why in _SIGNS if sign in said), Why.FAILED)
