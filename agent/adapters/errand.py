"""Commands that a unit carries out for the agent: started, followed while they print, and told how they ended."""

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path

from agent.adapters.transcript import Task, Transcript, too_long
from agent.adapters.workshop import Result, Workshop
from agent.core.errors import StepFailed
from agent.core.ports import Heard
from agent.system import files, isolated
from agent.system.threads import in_thread, to_its_end, to_its_end_of
from agent.system.units import UnitError, UnitState, Why

UNTIL_WE_ARE_STOPPED = 5.0
"""Seconds. systemd that stops the agent ends a unit that is bound to it first: that is no failure of what was run."""
_FAILED_OTHERWISE = "`systemctl status {unit}` and `journalctl --unit={unit}` tell more."


class Errand:
    """`recipe` is what root must have allowed; `seconds` are all that the commands have together."""

    def __init__(
        self,
        workshop: Workshop,
        task: Task,
        recipe: str,
        transcript: Transcript,
        *,
        seconds: float,
        pace: float,
    ) -> None:
        self._workshop = workshop
        self._task = task
        self._recipe = recipe
        self._transcript = transcript
        self._seconds = seconds
        self._pace = pace

    async def run(self, act: str, commands: Sequence[str], place: Path, revision: str, heard: Heard) -> str:
        """Returns what the commands printed, when all that they wrote is on the device. Raises StepFailed."""
        if not commands:
            return ""
        await in_thread(self._workshop.demand, self._recipe)
        await self._workshop.stop()  # an agent that was killed has left it running
        await self._workshop.ask(place, act, revision=revision, recipe=self._recipe)
        output = await self._carry_out(commands, place, heard)
        try:
            await to_its_end(files.syncfs, place)
        except OSError as error:
            raise files.translate(error, f"writing out what {self._task.name} made") from error
        return output

    async def _carry_out(self, commands: Sequence[str], place: Path, heard: Heard) -> str:
        work = asyncio.create_task(self._workshop.start(self._seconds))
        try:
            await self._follow(work, commands, heard)
            done = await work
        except UnitError as error:
            await to_its_end_of(self._workshop.stop())
            if error.why is not Why.STUCK:
                raise self._workshop.translated(error) from error
            await self._workshop.look()
            raise await self._too_long(commands) from error
        except BaseException:
            work.cancel()
            with contextlib.suppress(StepFailed):  # the next build stops it first
                await to_its_end_of(self._workshop.stop())
            raise
        if done == "done":
            return await self._output(commands, running=False)
        raise await self._failure(commands, place, done)

    async def _follow(self, work: "asyncio.Task[str]", commands: Sequence[str], heard: Heard) -> None:
        """Tells what is printed until the unit has ended."""
        told = ""
        while not work.done():
            await asyncio.wait({work}, timeout=self._pace)
            output = await self._output(commands, running=True)
            if output != told and not work.done():
                heard(output)
                told = output

    async def _output(self, commands: Sequence[str], *, running: bool) -> str:
        printed = await in_thread(self._workshop.printed, len(commands))
        output = ""
        for number, (command, said) in enumerate(zip(commands, printed, strict=False), start=1):
            still = running and number == len(printed)
            output = self._transcript.join(output, command, said, running=still)
        return output

    async def _too_long(self, commands: Sequence[str]) -> StepFailed:
        printed = await in_thread(self._workshop.printed, len(commands))
        output = await self._output(commands, running=False)
        return too_long(self._task, self._seconds, commands[max(len(printed) - 1, 0)], output)

    # --- why it failed

    async def _failure(self, commands: Sequence[str], place: Path, done: str) -> StepFailed:
        state, result = await self._workshop.look(), await in_thread(self._workshop.result)
        if state.result == "timeout":
            return await self._too_long(commands)
        if done == "canceled" or state.status in (isolated.STOPPED, signal.SIGTERM):
            await asyncio.sleep(UNTIL_WE_ARE_STOPPED)
        if state.status == isolated.REFUSED:
            return StepFailed("build-not-prepared", f"{self._workshop.unit} refuses what it was asked for")
        output = await self._output(commands, running=False)
        oom = state.result == "oom-kill" or (result is not None and result.out_of_memory)
        if oom or self._is_commands(state, result, commands):
            return await self._of_command(commands, result, place, output, oom=oom)
        status = f", status {state.status}" if state.status else ""
        message = f"{self._workshop.unit} did not do it: {done}, {state.result}{status}"
        hint = _FAILED_OTHERWISE.format(unit=self._workshop.unit)
        return StepFailed("runtime-failed", message, hint=hint, output=output)

    def _is_commands(self, state: UnitState, result: Result | None, commands: Sequence[str]) -> bool:
        """Whether the unit says that a command failed, and it is known which one."""
        known = result is not None and result.status != 0 and 0 <= result.command < len(commands)
        return known and state.result == "exit-code" and state.status == isolated.FAILED

    async def _of_command(
        self, commands: Sequence[str], result: Result | None, place: Path, output: str, *, oom: bool
    ) -> StepFailed:
        printed = await in_thread(self._workshop.printed, len(commands))
        last = max(len(printed) - 1, 0)
        number = result.command if result is not None and 0 <= result.command < len(commands) else last
        status = result.status if result is not None and result.status else -9
        said = printed[number] if number < len(printed) else b""
        limit = f"`MemoryMax=` of {self._workshop.unit}" if oom else ""
        return self._transcript.failure(self._task, commands[number], status, said, place, output, oom=limit)
