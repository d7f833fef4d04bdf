"""What `homeport-build@.service` runs, without systemd: the same program on the same files, started by the tests."""

import sys
from pathlib import Path

from agent.system import process
from agent.system.environment import PATH
from agent.system.units import UnitError, UnitState, Verb, Why

RUNNER = (sys.executable, "-I", "-m", "agent.system.isolated")


class RunnerUnits:
    """`system.units.Units` for one unit: of builds, or of migrations, of `service`. What the program leaves is ended,
    as by systemd.

    `place` holds the recipes and what is printed."""

    def __init__(self, service: str, place: Path, act: str = "build") -> None:
        self._service = service
        self._act = act
        self._place = place
        self.calls: list[Verb] = []
        self._state = UnitState(load="loaded", active="inactive", sub="dead")

    async def look(self, unit: str) -> UnitState:
        """How it ended the last time."""
        assert unit == f"homeport-{self._act}@{self._service}.service"
        return self._state

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        """Runs it, and what follows it in any case."""
        assert unit == f"homeport-{self._act}@{self._service}.service"
        self.calls.append(verb)
        if verb is not Verb.START:
            return "done"
        (self._place / "run" / self._service).mkdir(parents=True, exist_ok=True)
        done = await self._run(self._act, patience)
        if self._act == "build":
            await self._run("give-back", patience)
        if done.timed_out:
            raise UnitError(Why.STUCK, "the job has not ended")
        result = "exit-code" if done.status else "success"
        self._state = UnitState(
            load="loaded", active="inactive", sub="dead", result=result, status=done.status
        )
        return "failed" if done.status else "done"

    async def memory(self, unit: str) -> int | None:
        """Nobody counts it."""
        del unit
        return None

    async def close(self) -> None:
        """Nothing is held."""

    async def _run(self, act: str, patience: float) -> process.Finished:
        environment = {
            "PATH": PATH,
            "HOMEPORT_RECIPES": str(self._place),
            "RUNTIME_DIRECTORY": str(self._place / "run" / self._service),
            "CACHE_DIRECTORY": str(self._place),
        }
        argv = (*RUNNER, act, self._service)
        mark = f"HOME={self._place}"  # what the commands carry
        return await process.run(argv, cwd=Path("/"), env=environment, deadline=patience, mark=mark)
