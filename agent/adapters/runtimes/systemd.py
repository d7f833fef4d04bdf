"""The service is a unit: systemd starts it, watches it and starts it again; the agent asks systemd to.

- The unit runs what `current` names (`WorkingDirectory=/srv/<name>/current`); which release that was: `started.py`.
- A unit with a socket of its own is started by the next connection as soon as it was stopped: that is the new release,
  since `current` is changed before the stop.
- That systemd says "done" proves nothing about the service: another invocation than before is a restart, and the probes
  tell whether it works (R-SD-10).
- What a unit is to know of its release lies in it: `.homeport-environment`, for `EnvironmentFile=`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from agent.adapters.runtimes import unitlog
from agent.adapters.runtimes.started import Started
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.model import RELEASE_ENVIRONMENT, Launch, Running
from agent.core.text import clean, clean_lines, tail
from agent.system import environment, files, process
from agent.system.threads import in_thread
from agent.system.units import JOB_MARGIN, UnitError, Units, UnitState, Verb, Why

OUTPUT_SHOWN = 8192
OUTPUT_LINES = 100
PAUSES = (0.5, 1.5, 3.0, 5.0, 10.0)
"""Seconds before systemd is asked again after it has not answered."""
PATIENCE = 30.0
"""Seconds after which it is not asked again."""
JOURNAL_SECONDS = 10.0
JOURNAL_LAG = 0.25
"""Seconds until what a program printed last has come to the journal."""
_RELEASES_FAULT = frozenset(
    {"exit-code", "signal", "core-dump", "timeout", "watchdog", "oom-kill", "protocol"}
)
"""What systemd calls an end that the program itself brought about; the rest (resources, start-limit-hit ...) is not."""
_NO_PROGRAM, _SETUP = (200, 203), range(200, 246)
"""systemd.exec(5): the working directory or the program is not there; and all that may fail before the program runs."""


class SystemdRuntime:
    """`core.ports.Runtime` for `runtime: {kind: systemd}`.

    `directory` is the service's own; `state` is its directory in the agent's state. `journal` is the command that reads
    the journal. `embedded` ends what the agent started itself before the configuration named a unit. `link` is what
    the unit runs if that is not `current`.
    """

    def __init__(
        self,
        options: settings.SystemdRuntime,
        *,
        state: Path,
        directory: Path,
        units: Units,
        redact: Callable[[str], str] = str,
        embedded: Callable[[], Awaitable[None]] | None = None,
        journal: Sequence[str] = ("journalctl",),
        link: Path | None = None,
    ) -> None:
        self._unit = options.unit
        self._more = options.environment
        self._started = Started(state / "unit", options.unit, link or directory / "current")
        self._ended: str | None = None
        self._begun = ""
        self._redact = redact
        self._units = units
        self._journal = tuple(journal)
        self._embedded = embedded
        self._turn = asyncio.Lock()

    async def look(self) -> Running | None:
        """See the port. Costs a few messages on the bus. Raises as `start` does if systemd does not answer."""
        state = await self._look()
        if not state.runs:
            return None
        try:
            release = await in_thread(self._started.release_of, state.invocation)
        except OSError as error:
            raise files.translate(error, self._unit) from error
        return Running(release=release, instance=state.invocation, pid=state.pid or None)

    async def check(self, launch: Launch) -> None:
        """See the port: the unit is there and the agent may start it; its environment for this release is written.

        Raises unit-unknown, unit-masked, unit-refused, systemd-unreachable."""
        await self._demand_unit()
        # takes the same right as the other verbs, and changes nothing that runs
        await self._call(Verb.RESET_FAILED)
        await self._write_environment(launch)

    async def start(self, launch: Launch) -> Running:
        """See the port. Raises start-failed with the unit's last lines if the program failed; unit-unknown,
        unit-masked, unit-refused, unit-stuck, systemd-unreachable, runtime-failed."""
        async with self._turn:
            running = await self.look()
            if running is not None and running.release == launch.release:
                return running
            if running is not None and not await self._came_after_the_stop(running, launch):
                text = f"{self._unit} still runs {running.release or 'another release'}; stop it first"
                raise StepFailed("runtime-failed", text)
            if running is None:
                running = await self._start(launch)
            self._ended, self._begun = None, running.instance
            await self._note(launch.release, running.instance)
            return Running(release=launch.release, instance=running.instance, pid=running.pid)

    async def stop(self) -> None:
        """See the port: systemd ends the unit's whole group. Raises as `start` does."""
        async with self._turn:
            if self._embedded is not None:
                await self._embedded()
            before = await self._look()
            self._ended, self._begun = before.invocation, ""
            if before.load not in ("loaded", "masked") and before.active == "inactive":
                return
            result = await self._call(Verb.STOP)
            state = await self._look()
            if state.active not in ("inactive", "failed") and state.invocation == before.invocation:
                raise StepFailed(
                    "runtime-failed", f"{self._unit} is {state.active} after its stop ended with {result}"
                )

    async def _start(self, launch: Launch) -> Running:
        await self._demand_unit()
        await self._write_environment(launch)
        await self._note(launch.release, "")
        await self._call(Verb.RESET_FAILED)  # manual starts count for systemd's start limit
        result = await self._call(Verb.START)
        state = await self._look()
        if result != "done" or not state.runs:
            raise await self._explain(result, state)
        return Running(release=launch.release, instance=state.invocation, pid=state.pid or None)

    async def _came_after_the_stop(self, running: Running, launch: Launch) -> bool:
        """Whether somebody, a socket mostly, has started the unit since `stop`, and `current` named this release."""
        if self._ended is None or running.instance == self._ended or running.release:
            return False
        return await in_thread(self._started.names, launch.release)

    async def recovers(self) -> bool:
        """See the port: systemd's own `Restart=` waits or starts it just now, or somebody restarts it."""
        return (await self._look()).active in ("activating", "deactivating")

    async def listens(self, host: str, port: int) -> bool | None:  # noqa: ARG002 - only root sees whose they are
        """See the port: nobody but root can be told whose sockets they are. systemd ends the old group before the new
        one starts."""
        return None if (await self._look()).runs else False

    async def output(self) -> str:
        """See the port: the unit's last lines in the journal, which needs the group systemd-journal."""
        return await self._said(self._begun or (await self._look()).invocation)

    async def _said(self, invocation: str) -> str:
        """Since this invocation began, also by those that followed it."""
        if not invocation:
            return ""
        await asyncio.sleep(JOURNAL_LAG)
        command = [*self._journal, *unitlog.lines_of(self._unit)]
        env = {"PATH": environment.PATH, "LC_ALL": "C"}
        try:
            done = await process.run(
                command, cwd=Path("/"), env=env, deadline=JOURNAL_SECONDS, limit=unitlog.LIMIT
            )
        except OSError as error:
            return f"[the journal cannot be read: {error.strerror}]"
        said = unitlog.since(invocation, done.text)[-OUTPUT_LINES:]
        trouble = "" if said else unitlog.told_beside(done.text)
        if trouble or done.status != 0:
            return f"[the journal cannot be read: {self._redact(clean(trouble))}]"
        return tail(self._redact(clean_lines("\n".join(said))), OUTPUT_SHOWN).rstrip("\n")

    # --- systemd

    async def _look(self) -> UnitState:
        """Patiently: the bus is away for some seconds whenever it is updated."""
        loop = asyncio.get_running_loop()
        deadline, pauses = loop.time() + PATIENCE, iter(PAUSES)
        while True:
            try:
                return await self._units.look(self._unit)
            except UnitError as error:
                pause = next(pauses, None)
                passing = error.why in (Why.UNREACHABLE, Why.STUCK)
                if not passing or pause is None or loop.time() + pause > deadline:
                    raise self._translated(error) from error
                await asyncio.sleep(pause)

    async def _demand_unit(self) -> None:
        state = await self._look()
        if state.load == "masked":
            raise StepFailed("unit-masked", f"{self._unit} is masked")
        if state.load != "loaded":
            raise StepFailed("unit-unknown", f"systemd has no usable unit {self._unit}: {state.load}")

    async def _call(self, verb: Verb) -> str:
        """The job's result. A unit's own timeouts come first: only what outlasts them is stuck."""
        state = await self._look()
        patience = state.start_seconds + state.stop_seconds + JOB_MARGIN
        try:
            return await self._units.call(verb, self._unit, patience=patience)
        except UnitError as error:
            if verb is Verb.RESET_FAILED and error.why is Why.UNKNOWN:
                return "done"  # not in memory: there is nothing to forget
            raise self._translated(error) from error

    def _translated(self, error: UnitError) -> StepFailed:
        return StepFailed(error.code, clean(f"{self._unit}: {self._redact(str(error))}", 512))

    async def _explain(self, result: str, state: UnitState) -> StepFailed:
        """Why it does not run, and whose fault that is."""
        output = await self._said(state.invocation)
        if result == "done" and state.result == "success":  # of what is over systemd does not tell more
            text = f"{self._unit} does not stay up: it has ended, or a condition in the unit is not met"
            return StepFailed("start-failed", text, output=output)
        status = f", status {state.status}" if state.status else ""
        how = f"{self._unit} did not start: {result}, {state.result}{status}"
        if result in ("done", "failed", "timeout") and state.result in _RELEASES_FAULT:
            if state.status in _SETUP and state.status not in _NO_PROGRAM:
                return StepFailed(
                    "runtime-failed", f"{how}: systemd could not set the unit up", output=output
                )
            return StepFailed("start-failed", how, output=output)
        return StepFailed("runtime-failed", how, output=output)

    # --- which release runs

    async def _note(self, release: str, invocation: str) -> None:
        try:
            await in_thread(self._started.note, release, invocation)
        except OSError as error:
            raise files.translate(error, self._unit) from error

    async def _write_environment(self, launch: Launch) -> None:
        values = {
            **self._more,
            "HOMEPORT_SERVICE": launch.service,
            "HOMEPORT_REVISION": launch.revision,
        }
        path, text = Path(launch.directory) / RELEASE_ENVIRONMENT, environment_file(values).encode()
        try:
            await in_thread(_put, path, text)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StepFailed("runtime-failed", f"{launch.directory}: {error.strerror}") from error
        except OSError as error:
            raise files.translate(error, str(path)) from error


def environment_file(values: Mapping[str, str]) -> str:
    """As systemd.exec(5) reads an EnvironmentFile: everything in double quotes, with these four escaped."""
    escaped = str.maketrans({letter: f"\\{letter}" for letter in '"\\`$'})
    return "".join(f'{name}="{value.translate(escaped)}"\n' for name, value in values.items())


def _put(path: Path, data: bytes) -> None:
    """Only where it differs: a release that serves is not written to. What a build has put there instead of a file
    goes: root reads it, through links as well."""
    if files.read_plain(path, len(data)) == data:
        return
    files.remove_asides(path)
    if path.is_dir() and not path.is_symlink():
        files.remove_tree(path)
    files.write_atomic(path, data, mode=0o640)
