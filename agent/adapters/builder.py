"""Runs a service's build and migrate commands in a release. Answers `core.ports.Builder`.

The commands are the configuration's (its author may run anything anyway); what they run is the pushed revision's.
So they see nothing of the agent's environment, have one deadline for all, and nothing of theirs is left running:
also not a daemon that left their session, unless it cleaned its environment.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.transcript import LIMIT, Task, Transcript, too_long
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.model import Launch
from agent.core.ports import Heard, unheard
from agent.core.text import clean
from agent.system import files, process
from agent.system.environment import of_a_child
from agent.system.priority import prefix
from agent.system.telling import PACE, Telling
from agent.system.threads import to_its_end

log = logging.getLogger(__name__)

# What a build did to its own release, or asks of a program: the commit's fault.
_COMMITS = frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG, errno.E2BIG})


@dataclass(frozen=True)
class _Work:
    """Commands that belong together, and how they are run."""

    task: Task
    commands: tuple[str, ...]
    environment: Mapping[str, str]
    before: tuple[str, ...] = ()
    """Stands before each command: the programs that limit it."""


class ShellBuilder:
    """`environment` is `runtime.environment`; `redact` hides secrets in the output."""

    def __init__(
        self,
        service: str,
        deploy: settings.Deploy,
        environment: Mapping[str, str],
        redact: Callable[[str], str],
        *,
        floor: int = 64 << 20,
        pace: float = PACE,
    ) -> None:
        self._service = service
        self._deploy = deploy
        self._environment = dict(environment)
        self._transcript = Transcript(redact, floor)
        self._pace = pace
        self._warned: set[str] = set()

    async def build(self, launch: Launch, heard: Heard = unheard, *, reused: bool = False) -> str:
        """See `core.ports.Builder`. Each command's output follows a line `$ command`."""
        build = self._deploy.build
        commands = build.always if reused else build.commands + build.always
        work = _Work(
            Task("the build", "build-failed", "build-timeout", build.memory),
            commands=commands,
            environment=self._environment | build.environment,
            before=self._limits(build) if commands else (),
        )
        return await self._carry_out(work, launch, heard)

    async def migrate(self, launch: Launch, heard: Heard = unheard) -> str:
        """See `core.ports.Builder`. The old version waits for it, so it does not give way to others."""
        task = Task("the migration", "migrate-failed", "migrate-timeout")
        work = _Work(task, commands=self._deploy.migrate, environment=self._environment)
        return await self._carry_out(work, launch, heard)

    def _limits(self, build: settings.Build) -> tuple[str, ...]:
        """What the system gives without root. A politeness that is missing is told once; a limit is not waived."""
        found = prefix(nice=build.nice, io=build.io, memory=build.memory)
        if "prlimit" in found.missing:
            message = "there is no program `prlimit`, so the build's memory cannot be limited"
            raise StepFailed("limit-unavailable", message)
        for program in set(found.missing) - self._warned:
            log.warning("%s: there is no program %s: builds run without it", self._service, program)
        self._warned.update(found.missing)
        return found.argv

    async def _carry_out(self, work: _Work, launch: Launch, heard: Heard) -> str:
        task, directory = work.task, Path(launch.directory)
        # What an agent that was killed has left at work here would write into the same files.
        await process.end_orphans(process.mark_of(directory))
        telling = Telling(heard, self._pace)
        try:
            output = await self._run_all(work, launch, telling)
        finally:
            telling.close()
        try:
            await to_its_end(files.syncfs, directory)
        except FileNotFoundError as error:
            raise StepFailed(task.failed, f"{task.name} removed its release", output=output) from error
        except OSError as error:
            raise files.translate(error, f"writing out what {task.name} made") from error
        return output

    async def _run_all(self, work: _Work, launch: Launch, telling: Telling) -> str:
        loop = asyncio.get_running_loop()
        seconds = self._deploy.build.timeout
        expires = loop.time() + seconds
        output = ""
        for command in work.commands:
            done = await self._run(work, command, launch, expires - loop.time(), output, telling)
            output = self._transcript.join(output, command, done.output)
            if done.timed_out:
                raise too_long(work.task, seconds, command, output)
            if done.status != 0:
                raise self._transcript.failure(
                    work.task, command, done.status, done.output, Path(launch.directory), output
                )
        return output

    async def _run(
        self, work: _Work, command: str, launch: Launch, deadline: float, output: str, telling: Telling
    ) -> process.Finished:
        directory = Path(launch.directory)
        mark = process.mark_of(directory)
        name, _, value = mark.partition("=")
        # A shell, because the option is a shell's line; nothing from outside is put into it.
        argv = (*work.before, "/bin/sh", "-c", command)
        variables = of_a_child(self._service, launch.revision, work.environment) | {name: value}

        def heard(printed: bytes) -> None:
            telling.news(lambda: self._transcript.join(output, command, printed, running=True))

        heard(b"")
        try:
            return await process.run(
                argv, cwd=directory, env=variables, deadline=max(deadline, 0), limit=LIMIT, mark=mark, heard=heard
            )  # fmt: skip
        except OSError as error:
            if error.errno not in _COMMITS:
                raise files.translate(error, f"starting {work.task.name}") from error
            message = f"the release's directory cannot be used for {clean(command, 120)}: {error.strerror}"
            raise StepFailed(work.task.failed, message, output=self._transcript.shown(output)) from error
