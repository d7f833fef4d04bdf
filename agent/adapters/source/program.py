"""The git program: how it is called, with which options, in which environment, and what its complaints mean."""

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, TypeVar, cast

from agent.adapters import tree
from agent.adapters.source.door import Door, Pass
from agent.core import curltrace
from agent.core.errors import StepFailed
from agent.core.gitwords import essence, explain
from agent.core.text import clean, clean_lines
from agent.system import files, process
from agent.system.threads import in_thread

T = TypeVar("T")

_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "credential.helper=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=no",
    "core.bigFileThreshold=16m",  # bigger files are streamed, and not held in memory
    "gc.auto=0",
    "maintenance.auto=false",
    "safe.bareRepository=explicit",
    "init.defaultBranch=main",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "protocol.ext.allow=never",
    "transfer.fsckObjects=true",
    # Defects that old, legitimate repositories have and that do no harm in a release.
    *(f"fetch.fsck.{defect}=warn" for defect in (
        "badDate", "badDateOverflow", "badEmail", "badName", "badTimezone", "missingEmail", "missingNameBeforeEmail",
        "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "zeroPaddedDate", "zeroPaddedFilemode",
    )),
)  # fmt: skip
_LEAST_MEMORY = 256 << 20
_ERRORS = 65536
"""Bytes that are kept of what git says."""
_TRACE = {"GIT_TRACE_CURL": "2", "GIT_TRACE_CURL_NO_DATA": "1"}
"""For `core.curltrace`: the headers of a web server's answers, between git's complaints."""
_KEPT_VARIABLES = ("PATH", "HOME", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")


class Git:
    """Calls git for one service. `directory` is the service's; `redact` hides secrets in what git said."""

    def __init__(
        self,
        directory: Path,
        door: Door,
        redact: Callable[[str], str],
        *,
        local: bool,
        deadline: float,
    ) -> None:
        self.mark = process.mark_of(directory / "mirror.git")
        self._directory = directory
        self._door = door
        self._redact = redact
        self._local = local
        self._deadline = deadline

    async def call(
        self, mirror: Path, *arguments: str, stdin: bytes | None = None, limit: int = 65536
    ) -> process.Finished:
        """Runs git to its end in a mirror; keeps the last `limit` bytes of its output."""
        child = await self._start(arguments, mirror, stdin)
        return await process.finish(child, deadline=self._deadline, limit=limit)

    async def call_remote(self, mirror: Path, *arguments: str) -> process.Finished:
        """The same for what speaks to the remote: with what lets it in."""
        await in_thread(self._door.prepare)
        child = await self._start(arguments, mirror, None, remote=True)
        return await process.finish(child, deadline=self._deadline, limit=_ERRORS)

    async def stream(
        self, mirror: Path, consume: Callable[[BinaryIO], T], *arguments: str, stdin: bytes | None = None
    ) -> T:
        """Hands git's output to `consume`, in a thread, as it comes. Raises mirror-corrupt if git fails."""
        child = await self._start(arguments, mirror, stdin)
        pipe, child.stdout = child.stdout, None
        assert pipe is not None, "GitPython opens the pipe"
        reading = asyncio.ensure_future(in_thread(_consume, consume, pipe))
        reading.add_done_callback(
            lambda read: read.cancelled() or read.exception()
        )  # taken, also when cancelled
        try:
            done = await process.finish(child, deadline=self._deadline)
        finally:
            await asyncio.wait([reading])  # git is gone, so its pipe has an end
        result = reading.result()
        if done.status != 0:
            raise tree.Damaged(self.failure(done).message)
        return result

    def failure(self, done: process.Finished) -> StepFailed:
        """What git's words mean."""
        complaint = self.complaint(done)
        code, hint = explain(complaint)
        message = clean(essence(complaint), 300) or f"git ended with status {done.status}"
        wait = curltrace.retry_after(_text_of(done))
        if wait is not None:
            code, hint = "git-unreachable", None  # for now: GitHub also limits with 403
            message += f" / it asks to wait {wait:.0f} seconds"
        return StepFailed(code, message, hint=hint, retry_after=wait)

    def complaint(self, done: process.Finished) -> str:
        """What git said on its standard error, without secrets and without the trace of its requests."""
        is_cut = len(done.errors) >= _ERRORS
        return self._redact(clean_lines(curltrace.without(_text_of(done), is_cut=is_cut)))

    @asynccontextmanager
    async def limits(self, what: str) -> AsyncIterator[None]:
        """One deadline around everything in it, and foreign errors as ours."""
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except TimeoutError as error:
            message = f"{what} took longer than {self._deadline:g} seconds"
            raise StepFailed("git-timeout", message) from error
        except OSError as error:
            raise files.translate(error, what) from error

    async def _start(
        self, arguments: Sequence[str], mirror: Path, stdin: bytes | None, *, remote: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Starts git in a session of its own, with our options and nothing but our environment."""
        await in_thread(_load_gitpython)
        environment = self._environment()
        if remote:
            environment |= _TRACE
            environment["GIT_SSH_COMMAND"] = await in_thread(self._door.ssh_command)
        # GitPython starts from os.environ: these are what it must not hand on.
        others = [name for name in os.environ if name and name not in environment]
        options = (*_OPTIONS, f"protocol.file.allow={'always' if self._local else 'never'}")
        with process.input_of(stdin) as source, self._door.open(remote) as let_in:
            command = [
                "env",
                *_each("-u", others),
                "git",
                *_each("-c", (*options, *let_in.options)),
                f"--git-dir={mirror}",
                *arguments,
            ]
            return _spawn(command, self._directory, environment, source, let_in, _memory())

    def _environment(self) -> dict[str, str]:
        """R-GIT-3. The mark lets a later agent find what this one left at work."""
        name, _, value = self.mark.partition("=")
        return {kept: os.environ[kept] for kept in _KEPT_VARIABLES if kept in os.environ} | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_ALLOW_PROTOCOL": "https:ssh:file" if self._local else "https:ssh",
            "GIT_SSH_COMMAND": "/bin/false",
            "GIT_SSH_VARIANT": "ssh",
            "LC_ALL": "C",
            "LANGUAGE": "C",
            name: value,
        }


def _text_of(done: process.Finished) -> str:
    return done.errors.decode("utf-8", "replace").replace("\r\n", "\n")


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _load_gitpython() -> None:
    """In a thread: the import costs 50 ms, and it asks git for its version."""
    try:
        import git  # noqa: F401 - it stays in sys.modules
    except ImportError as error:
        raise StepFailed("git-failed", "the git program cannot be run", hint="Install git.") from error


def _memory() -> int:
    """Bytes that one program of git may take: an object of a pack may say that it is as long as it likes."""
    return max(_LEAST_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


def _spawn(
    command: Sequence[str],
    directory: Path,
    environment: dict[str, str],
    source: int,
    let_in: Pass,
    memory: int,
) -> "subprocess.Popen[bytes]":
    from git.cmd import Git

    handle = Git(directory).execute(
        command,
        istream=source,
        as_process=True,
        shell=False,
        env=environment,
        start_new_session=True,
        pass_fds=let_in.descriptors,
    )
    child, handle.proc = handle.proc, None  # its end is ours: GitPython would only end the leader
    assert child is not None, "GitPython raises if it cannot start the program"
    with suppress(OSError):  # it has ended already, or a sandbox forbids the call and limits memory itself
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (memory, memory))
    return child


def _consume(consume: Callable[[BinaryIO], T], pipe: IO[bytes]) -> T:
    with pipe:  # closed early, git ends by SIGPIPE
        return consume(cast(BinaryIO, pipe))
