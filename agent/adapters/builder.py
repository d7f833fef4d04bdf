"""Runs a service's build and migrate commands in a release. Answers `core.ports.Builder`.

The commands are the configuration's (its author may run anything anyway); what they run is the pushed revision's.
So they see nothing of the agent's environment, have one deadline for all, and nothing of theirs is left running:
also not a daemon that left their session, unless it cleaned its environment.
"""

import asyncio
import errno
import logging
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.model import Fault, Launch
from agent.core.ports import Heard, unheard
from agent.core.text import clean, clean_lines, tail
from agent.core.units import write_size
from agent.system import files, process
from agent.system.environment import of_a_child
from agent.system.priority import prefix
from agent.system.telling import PACE, Telling
from agent.system.threads import to_its_end

log = logging.getLogger(__name__)

LIMIT = 65536
"""Bytes of output that are kept, for all commands together."""

_MARGIN = 4096
_FULL = ("No space left on device", "Disk quota exceeded", "ENOSPC", "Errno 28")
_NO_MEMORY = re.compile(
    r"MemoryError|Cannot allocate memory|\bENOMEM\b|Errno 12\b|std::bad_alloc|[Oo]ut of memory|[Mm]emory exhausted"
    r"|(?:memory allocation of|failed to map) |virtual memory exhausted|OutOfMemory|heap space"
)
_ABORTED = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGTRAP, signal.SIGKILL})
# What a build did to its own release, or asks of a program: the commit's fault.
_COMMITS = frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG, errno.E2BIG})


@dataclass(frozen=True)
class _Task:
    """Commands that belong together, and how to speak of them."""

    name: str
    commands: tuple[str, ...]
    environment: Mapping[str, str]
    failed: str
    timed_out: str
    before: tuple[str, ...] = ()
    """Stands before each command: the programs that limit it."""
    memory: int | None = None


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
        self._redact = redact
        self._floor = floor
        self._pace = pace
        self._warned: set[str] = set()

    async def build(self, launch: Launch, heard: Heard = unheard, *, reused: bool = False) -> str:
        """See `core.ports.Builder`. Each command's output follows a line `$ command`."""
        build = self._deploy.build
        commands = build.always if reused else build.commands + build.always
        task = _Task(
            name="the build",
            commands=commands,
            environment=self._environment | build.environment,
            failed="build-failed",
            timed_out="build-timeout",
            before=self._limits(build) if commands else (),
            memory=build.memory,
        )
        return await self._carry_out(task, launch, heard)

    async def migrate(self, launch: Launch, heard: Heard = unheard) -> str:
        """See `core.ports.Builder`. The old version waits for it, so it does not give way to others."""
        task = _Task(
            name="the migration",
            commands=self._deploy.migrate,
            environment=self._environment,
            failed="migrate-failed",
            timed_out="migrate-timeout",
        )
        return await self._carry_out(task, launch, heard)

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

    async def _carry_out(self, task: _Task, launch: Launch, heard: Heard) -> str:
        directory = Path(launch.directory)
        # What an agent that was killed has left at work here would write into the same files.
        await process.end_orphans(process.mark_of(directory))
        telling = Telling(heard, self._pace)
        try:
            output = await self._run_all(task, launch, telling)
        finally:
            telling.close()
        try:
            await to_its_end(files.syncfs, directory)
        except FileNotFoundError as error:
            raise StepFailed(task.failed, f"{task.name} removed its release", output=output) from error
        except OSError as error:
            raise files.translate(error, f"writing out what {task.name} made") from error
        return output

    async def _run_all(self, task: _Task, launch: Launch, telling: Telling) -> str:
        loop = asyncio.get_running_loop()
        seconds = self._deploy.build.timeout
        expires = loop.time() + seconds
        output = ""
        for command in task.commands:
            done = await self._run(task, command, launch, expires - loop.time(), output, telling)
            output = self._join(output, command, done.output)
            if done.timed_out:
                message = f"{task.name} took longer than {seconds:g} seconds, in: {clean(command, 120)}"
                raise StepFailed(task.timed_out, message, output=output)
            if done.status != 0:
                raise self._failure(task, command, done, Path(launch.directory), output)
        return output

    async def _run(
        self, task: _Task, command: str, launch: Launch, deadline: float, output: str, telling: Telling
    ) -> process.Finished:
        directory = Path(launch.directory)
        mark = process.mark_of(directory)
        name, _, value = mark.partition("=")
        # A shell, because the option is a shell's line; nothing from outside is put into it.
        argv = (*task.before, "/bin/sh", "-c", command)
        variables = of_a_child(self._service, launch.revision, task.environment) | {name: value}

        def heard(printed: bytes) -> None:
            telling.news(lambda: self._join(output, command, printed, running=True))

        heard(b"")
        try:
            return await process.run(
                argv, cwd=directory, env=variables, deadline=max(deadline, 0), limit=LIMIT, mark=mark, heard=heard
            )  # fmt: skip
        except OSError as error:
            if error.errno not in _COMMITS:
                raise files.translate(error, f"starting {task.name}") from error
            message = f"the release's directory cannot be used for {clean(command, 120)}: {error.strerror}"
            raise StepFailed(task.failed, message, output=self._shown(output)) from error

    def _join(self, output: str, command: str, printed: bytes, *, running: bool = False) -> str:
        text = (_whole_lines(printed) if running else printed).decode("utf-8", "replace")
        if len(printed) >= LIMIT:  # a secret may have been cut in two at the beginning: it goes as a whole
            text = "…\n" + self._redact(text)[_MARGIN:]
        return tail(output + self._shown(f"$ {command}\n{text}"), LIMIT)

    def _shown(self, text: str) -> str:
        # Hidden before the control characters go and after: either may have hidden it from the other.
        shown = self._redact(clean_lines(self._redact(text)))
        return shown if not shown or shown.endswith("\n") else f"{shown}\n"

    def _failure(
        self, task: _Task, command: str, done: process.Finished, directory: Path, output: str
    ) -> StepFailed:
        if any(words in done.text for words in _FULL) or self._is_full(directory):
            return StepFailed("disk-full", f"the disk filled up during {task.name}", output=output)
        how = _how_it_ended(done, task.memory)
        return StepFailed(task.failed, f"{clean(command, 120)} {how}", output=output, fault=Fault.COMMIT)

    def _is_full(self, directory: Path) -> bool:
        try:
            free = files.free(directory)
        except OSError:
            return False
        return free.bytes < self._floor or (free.inodes is not None and free.inodes < 1000)


def _whole_lines(printed: bytes) -> bytes:
    """Without the line that is still being printed: a secret in it may be half there, and not be recognized."""
    return printed[: max(printed.rfind(b"\n"), printed.rfind(b"\r")) + 1]


def _how_it_ended(done: process.Finished, memory: int | None) -> str:
    """A shell tells the signal of its child as 128 and more. A limit of memory is known by what programs say of it."""
    number = -done.status if done.status < 0 else done.status - 128
    try:
        how = f"was ended by {signal.Signals(number).name}"
    except ValueError:
        how = f"ended with status {done.status}"
    limit = f"`deploy.build.memory`, {write_size(memory)}" if memory is not None else ""
    if limit and _NO_MEMORY.search(done.text):
        return f"{how}: it asked for more memory than {limit}"
    if number in _ABORTED and (limit or number == signal.SIGKILL):
        return f"{how}; perhaps the memory did not suffice{f' ({limit})' if limit else ''}"
    return how
