"""The embedded mode: the agent starts the service itself, and the service outlives the agent.

The directory `state` of a service holds what the next agent needs: `lock`, `pid` (the record of `system.daemon`,
where the reasoning about kills and power cuts stands), `output` and `output.1`. What a service is: a session whose
leader is the configured command. The service has died when the leader has, whatever it leaves behind; what it
leaves behind is ended by `stop`, or before the next `start`.

The output file is cut back only when a service is started (above 1 MiB it becomes `output.1`). What it listens with
is handed on to the next version: `doors.py`.
"""

import asyncio
import errno
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from agent.adapters.runtimes.doors import Doors
from agent.adapters.runtimes.draining import drain
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.model import Launch, Running
from agent.core.text import clean, clean_lines, tail
from agent.system import daemon, environment, files, process, sockets
from agent.system.family import Family, end
from agent.system.threads import in_thread

OUTPUT_SHOWN = 8192
"""Characters of the service's output that a report gets."""

_OUTPUT_KEPT = 1 << 20
_MARGIN = 4096  # read before what is shown, so that a secret that is cut in two is recognised
_COMMAND_ERRORS = frozenset(
    {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.E2BIG}
    | {errno.ENAMETOOLONG, errno.EINVAL, errno.EPERM}
)  # what execve(2) says of the command itself; EAGAIN, EIO, ENOMEM, EMFILE ... are the machine's


class ProcessRuntime:
    """`core.ports.Runtime` for `runtime: {kind: process}`.

    `state` is the service's own directory in the agent's state, made when it is needed. `inherited` is where PATH,
    HOME and LANG come from: the agent's environment unless given. `redact` hides secrets in what is shown.
    """

    def __init__(
        self,
        options: settings.ProcessRuntime,
        *,
        service: str,
        state: Path,
        redact: Callable[[str], str] = str,
        inherited: Mapping[str, str] | None = None,
    ) -> None:
        self._options = options
        self._service = service
        self._state = state
        self._redact = redact
        self._inherited = inherited
        self._turn = asyncio.Lock()
        self._record: daemon.Record | None = None
        self._output_from = 0
        self._ending = ""
        self._doors = Doors(service, options.listen)

    async def look(self) -> Running | None:
        """See `core.ports.Runtime`. Costs one read of /proc as long as the process lives."""
        running = self._alive()
        if running is None and not self._turn.locked():
            async with self._exclusively():  # a launcher of a killed agent may still be under way
                running = self._alive()
                self._bury()
            self._doors.seen(asyncio.get_running_loop().time(), alive=running is not None)
        return running

    async def check(self, launch: Launch) -> None:
        """See `core.ports.Runtime`: the program is there and can be executed."""
        program = self._options.command[0]
        directory = Path(launch.directory)
        search = self._environment(launch)["PATH"].split(":")
        places = [directory] if "/" in program else [Path(place) for place in search if place]
        if not any(
            os.access(place / program, os.X_OK) and not (place / program).is_dir() for place in places
        ):
            where = str(directory / program) if "/" in program else f"{program} in PATH"
            raise StepFailed("start-failed", f"cannot execute {clean(where)}: there is no such program")

    async def start(self, launch: Launch) -> Running:
        """See `core.ports.Runtime`. Raises start-failed with the service's output; runtime-failed, disk-full."""
        async with self._turn, self._exclusively() as lock:
            running = self._alive()
            if running and running.release == launch.release:
                return running
            if running:
                raise StepFailed(
                    "runtime-failed", f"{self._service}: release {running.release} still runs; stop it first"
                )
            await self._end_family(grace=self._options.stop_timeout)
            return await self._launch(launch, lock)

    async def stop(self) -> None:
        """See `core.ports.Runtime`. Raises runtime-failed if a process outlives SIGKILL or belongs to another user."""
        async with self._turn, self._exclusively():
            await self._prepare_stop()
            await self._end_family(grace=self._options.stop_timeout)

    async def recovers(self) -> bool:
        """See `core.ports.Runtime`: nobody else starts it."""
        return False

    async def listens(self, host: str, port: int) -> bool | None:
        """See `core.ports.Runtime`. A name may have several addresses: all that are listened at must be ours."""
        family = self._family()
        if family is None:
            return False
        addresses = await asyncio.get_running_loop().run_in_executor(None, sockets.addresses, host)
        listening = [found for address in addresses if (found := sockets.listeners(address, port))]
        pids = [stat.pid for stat in family.in_session()]
        answers = [sockets.belong(inodes, pids) for inodes in listening]
        if not answers or False in answers:
            return False
        return None if None in answers else True

    async def output(self) -> str:
        """See `core.ports.Runtime`: what the newest instance printed, cleaned and redacted, and how it ended."""
        try:
            data = await in_thread(_read_tail, self._state / "output", self._output_from)
        except OSError as error:
            return f"[the output cannot be read: {error.strerror}]"
        text = tail(self._redact(clean_lines(data.decode("utf-8", "replace"))), OUTPUT_SHOWN)
        return "\n".join(part for part in (text.rstrip("\n"), self._ending) if part)

    def _alive(self) -> Running | None:
        """What the record in memory names, if it is alive."""
        leader = self._record.leader() if self._record else None
        if self._record is None or leader is None or not leader.alive:
            return None
        notes = self._record.notes
        return Running(release=notes["release"], instance=notes["token"], pid=leader.pid)

    def _family(self) -> Family | None:
        """The processes of the record's service; None if it names nobody of this boot."""
        if self._record is None or self._record.boot != process.boot_id():
            return None
        notes = self._record.notes
        marks = (f"HOMEPORT_SERVICE={self._service}", f"HOMEPORT_REVISION={notes['revision']}")
        return Family(
            session=self._record.pid,
            started=self._record.started,
            marks=frozenset(os.fsencode(mark) for mark in marks),
            directory=Path(notes["directory"]),
        )

    @asynccontextmanager
    async def _exclusively(self) -> AsyncIterator[int]:
        """Holds the lock, with the record as the last launcher left it."""
        try:
            await in_thread(self._state.mkdir, parents=True, exist_ok=True, mode=0o700)
            async with daemon.exclusive(self._state / "lock", daemon.PATIENCE) as lock:
                self._take(await in_thread(daemon.read_record, self._state / "pid"))
                yield lock
        except TimeoutError as error:
            message = f"{self._service}: somebody else is starting or stopping it"
            raise StepFailed("runtime-failed", message) from error
        except OSError as error:
            raise files.translate(error, str(self._state)) from error

    def _take(self, record: daemon.Record | None) -> None:
        if record and not {"release", "revision", "directory", "token", "output"} <= set(record.notes):
            record = None
        if record and (self._record is None or record.notes["token"] != self._record.notes["token"]):
            self._output_from = int(record.notes["output"])
            self._ending = ""
        self._record = record

    async def _prepare_stop(self) -> None:
        """What the next version is to take over stays, and the job at hand is ended."""
        family = self._family()
        if family is None or self._record is None or self._alive() is None:
            return
        pids = [stat.pid for stat in family.in_session()]
        await in_thread(self._doors.keep, pids, asyncio.get_running_loop().time())
        if self._options.drain is not None:
            env = environment.of_a_child(
                self._service, self._record.notes["revision"], self._options.environment, self._inherited
            )
            await drain(self._options.drain, family, env, self._service, self._redact)

    async def _end_family(self, *, grace: float) -> None:
        """Ends everybody and forgets them. The leader is reaped last: till then its number is nobody else's."""
        family = self._family()
        if family:
            left = await end(family, grace=grace)
            self._bury()
            if left:
                pids = ", ".join(map(str, left))
                raise StepFailed("runtime-failed", f"{self._service}: cannot end process {pids}")
        await in_thread((self._state / "pid").unlink, missing_ok=True)
        self._record = None

    async def _launch(self, launch: Launch, lock: int) -> Running:
        output = await in_thread(_open_output, self._state / "output")
        try:
            self._output_from, self._ending = os.fstat(output).st_size, ""
            plan = self._plan(launch, output, self._doors.open())
            try:
                await daemon.launch(plan, lock)
            except daemon.LaunchFailed as failure:
                raise await self._explain(failure, plan) from failure
        finally:
            os.close(output)
        self._take(daemon.read_record(plan.record))
        running = self._alive()
        if running is None:
            await self._end_family(grace=0)
            message = f"{clean(plan.argv[0])} ended as soon as it was started"
            raise StepFailed("start-failed", message, output=await self.output())
        return running

    def _plan(self, launch: Launch, output: int, sockets: Sequence[int]) -> daemon.Plan:
        program, *arguments = self._options.command
        if "/" in program:
            program = str(Path(launch.directory, program))  # an absolute one stays what it is
        notes = {
            "release": launch.release,
            "revision": launch.revision,
            "directory": launch.directory,
            "token": secrets.token_hex(8),
            "output": str(self._output_from),
        }
        return daemon.Plan(
            argv=(program, *arguments),
            environment=self._environment(launch) | self._doors.environment(),
            directory=Path(launch.directory),
            output=output,
            record=self._state / "pid",
            notes=notes,
            sockets=tuple(sockets),
        )

    def _environment(self, launch: Launch) -> dict[str, str]:
        return environment.of_a_child(
            self._service, launch.revision, self._options.environment, self._inherited
        )

    async def _explain(self, failure: daemon.LaunchFailed, plan: daemon.Plan) -> StepFailed:
        """The release's own fault is only what exec says about the command; the rest is the world's."""
        if failure.stage == "exec" and failure.number in _COMMAND_ERRORS:
            program, reason = plan.argv[0], os.strerror(failure.number)
            if failure.number == errno.ENOENT and "/" in program and await in_thread(Path(program).is_file):
                reason = "the interpreter that its first line names does not exist"
            return StepFailed("start-failed", f"{clean(program)}: {reason}", output=await self.output())
        if failure.stage == "record":
            return files.translate(OSError(failure.number, os.strerror(failure.number)), str(plan.record))
        return StepFailed("runtime-failed", f"{self._service}: {failure}")

    def _bury(self) -> None:
        """Reaps a dead leader that is our child, once nobody is left in its session."""
        leader = self._record.leader() if self._record else None
        family = self._family()
        if leader is None or leader.alive or family is None or family.in_session():
            return
        status = daemon.reap(leader.pid)
        if status is not None:
            how = f"exit status {status}" if status >= 0 else f"signal {-status}"
            self._ending = f"[the process ended with {how}]"


def _open_output(path: Path) -> int:
    """Opens the output for appending; what is longer than 1 MiB is put aside first, over the one put aside before."""
    if path.exists() and path.stat().st_size > _OUTPUT_KEPT:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _read_tail(path: Path, begin: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, begin, size - OUTPUT_SHOWN - _MARGIN))
            return file.read(OUTPUT_SHOWN + _MARGIN)
    except FileNotFoundError:
        return b""
