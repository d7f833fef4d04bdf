"""Programs that are started, watched and ended: a session each, a deadline each, nothing left running.

Rules:
- A program gets its own session, so that its whole family can be found again in /proc, also who left the
  process group; who left the session too (a daemon) is found by the `mark` in its environment.
- A leader is reaped only after its family is gone: as long as it is a zombie its number cannot be given to
  somebody else, and nobody else is killed by mistake.
- Output is read all the time and only its end is kept; who keeps the pipe open after the leader's end is not
  waited for.
- /proc and fork are memory work of a few milliseconds; they are called on the loop, the waiting is not.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

GRACE = 2.0
"""Seconds from SIGTERM to SIGKILL."""

_UNKILLABLE = 5.0  # a process in uninterruptible sleep (a dead disk) is not waited for any longer
_CHUNK = 65536  # what a pipe holds


@dataclass(frozen=True)
class Finished:
    """How a program ended: `status` is its exit status, or the negative number of the signal that ended it.

    `output` is the end of what it printed; `errors` the end of its standard error where that is a pipe of its
    own. `timed_out`: the deadline came first.
    """

    status: int
    output: bytes
    timed_out: bool
    errors: bytes = b""

    @property
    def text(self) -> str:
        """The output as text; what is no UTF-8 is replaced."""
        return self.output.decode("utf-8", "replace")


@dataclass(frozen=True)
class ProcessStat:
    """One line of /proc/<pid>/stat. `started` counts clock ticks from boot; `state` is R, S, D, Z, T ..."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs: a zombie has only its number left."""
        return self.state not in {"Z", "X", "x"}


def stat_of(pid: int) -> ProcessStat | None:
    """What the kernel says of a process; None if there is none."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may hold spaces and parentheses itself: proc(5).
    fields = line[line.rindex(b")") + 2 :].split()
    state, parent, group, session = fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3])
    return ProcessStat(pid, state, parent, group, session, started=int(fields[19]))


def members(session: int) -> list[int]:
    """The processes of a session that are alive (not zombies), by their numbers."""
    return [stat.pid for stat in _everybody() if stat.session == session and stat.alive]


@cache
def boot_id() -> str:
    """What names this boot: a pid and a start time mean nothing in another one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def mark_of(directory: Path) -> str:
    """What a program that works in `directory` carries in its environment, for `run` and `end_orphans`."""
    return f"HOMEPORT_WORKS_IN={directory}"


def start(
    argv: Sequence[str | bytes | os.PathLike[str]],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes | None = None,
) -> "subprocess.Popen[bytes]":
    """Starts a program in a session of its own, its standard error merged into its output. Raises OSError."""
    with input_of(stdin) as source:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def input_of(data: bytes | None) -> Iterator[int]:
    """What a program can be given as its standard input: these bytes (no pipe to feed) or nothing."""
    if data is None:
        yield subprocess.DEVNULL
        return
    source = os.memfd_create("stdin")
    try:
        with os.fdopen(source, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(source, 0, os.SEEK_SET)
        yield source
    finally:
        os.close(source)


async def run(
    argv: Sequence[str | bytes | os.PathLike[str]],
    *,
    cwd: Path,
    env: Mapping[str, str],
    deadline: float,
    limit: int = 65536,
    stdin: bytes | None = None,
    mark: str | None = None,
    grace: float = GRACE,
    heard: Callable[[bytes], None] | None = None,
) -> Finished:
    """Runs a program to its end, at most `deadline` seconds; its environment is exactly `env`.

    Keeps the last `limit` bytes of its output. At the deadline its family gets SIGTERM, `grace` seconds later
    SIGKILL. When this returns or is cancelled, nothing that the program
    started is left running: `mark`, a `NAME=value` of `env` that nobody else carries, also finds daemons.
    `heard` is called with the output that is kept whenever there is more of it, which is often: do little there.
    Raises OSError if it cannot be started.
    """
    process = start(argv, cwd=cwd, env=env, stdin=stdin)
    return await finish(process, deadline=deadline, limit=limit, mark=mark, grace=grace, heard=heard)


async def finish(
    process: "subprocess.Popen[bytes]",
    *,
    deadline: float,
    limit: int = 65536,
    mark: str | None = None,
    grace: float = GRACE,
    heard: Callable[[bytes], None] | None = None,
) -> Finished:
    """Sees a program to its end that was started in its own session, as `run` does; see there.

    Pipes that `process` has as stdout and stderr are read here and closed.
    """
    output, errors = _Drain(process.stdout, limit, heard), _Drain(process.stderr, limit)
    timed_out = False
    try:
        timed_out = not await _exited(process.pid, deadline)
    finally:
        try:
            await end(process.pid, mark=mark, grace=grace)
        finally:
            output.close()
            errors.close()
            status = _reap(process)
    return Finished(status, output.kept, timed_out, errors.kept)


async def end(session: int, *, grace: float = GRACE, mark: str | None = None) -> None:
    """Ends every process of a session: SIGTERM, `grace` seconds, SIGKILL. Cancelled: SIGKILL at once."""
    await _end(lambda: _family(session, mark), grace)


async def end_orphans(mark: str, *, grace: float = GRACE) -> None:
    """Ends who carries the mark and was started by an agent that is dead: what our own children do goes on."""
    await _end(lambda: _orphans(mark), grace)


async def _end(living: Callable[[], list[int]], grace: float) -> None:
    try:
        await _until_gone(living, signal.SIGTERM, grace)
    finally:
        _signal(living(), signal.SIGKILL)
    await _until_gone(living, signal.SIGKILL, _UNKILLABLE)


def _everybody() -> list[ProcessStat]:
    found = (stat_of(int(entry.name)) for entry in os.scandir("/proc") if entry.name.isdigit())
    return [stat for stat in found if stat]


def _family(session: int, mark: str | None) -> list[int]:
    """Who belongs to a session, or carries the mark in its environment."""
    return [
        stat.pid
        for stat in _everybody()
        if stat.alive and (stat.session == session or (mark and _carries(stat.pid, mark)))
    ]


def _orphans(mark: str) -> list[int]:
    everybody = {stat.pid: stat for stat in _everybody()}
    leaders = {pid for pid, stat in everybody.items() if stat.parent == os.getpid()}
    return [
        pid
        for pid, stat in everybody.items()
        if stat.alive and stat.session not in leaders and _carries(pid, mark)
    ]


def _carries(pid: int, mark: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or somebody else's, who cannot have our mark
        return False
    return mark.encode() in environment.split(b"\0")


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # gone meanwhile; or it became another user's
            os.kill(pid, number)


async def _until_gone(living: Callable[[], list[int]], number: int, patience: float) -> None:
    """Signals the living until nobody is; who was forked meanwhile gets the signal as well."""
    loop = asyncio.get_running_loop()
    limit, pause = loop.time() + patience, 0.005
    signalled: set[int] = set()
    while family := living():
        # SIGTERM once each: a second one cuts short the tidying up that the first one began.
        _signal([pid for pid in family if number == signal.SIGKILL or pid not in signalled], number)
        signalled.update(family)
        if loop.time() >= limit:
            return
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.1)


async def _exited(pid: int, deadline: float) -> bool:
    """Waits for a child's end without reaping it. False: the deadline came first."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    handle = os.pidfd_open(pid)
    try:
        loop.add_reader(handle, over.set)
        async with asyncio.timeout(deadline):
            await over.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return True


def _reap(process: "subprocess.Popen[bytes]") -> int:
    """Takes the leader's status. What is not over by now hangs in the kernel and is left behind."""
    try:
        return process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


class _Drain:
    """Reads a pipe as it fills and keeps its end."""

    def __init__(
        self, pipe: IO[bytes] | None, limit: int, heard: Callable[[bytes], None] | None = None
    ) -> None:
        self._pipe = pipe
        self._limit = limit
        self._heard = heard
        self._buffer = bytearray()
        if self._pipe is not None:
            self._handle = self._pipe.fileno()
            os.set_blocking(self._handle, False)
            asyncio.get_running_loop().add_reader(self._handle, self._read)

    @property
    def kept(self) -> bytes:
        """The last `limit` bytes."""
        return bytes(self._buffer[-self._limit :])

    def close(self) -> None:
        """Takes what is in the pipe, once: a stranger who still writes into it is not waited for."""
        if self._pipe is None:
            return
        for _ in range(1 + 1048576 // _CHUNK):  # a pipe holds at most 1 MiB for an unprivileged user: pipe(7)
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._handle)
        self._pipe.close()

    def _read(self) -> bool:
        try:
            data = os.read(self._handle, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._handle)  # its end stays readable for ever
        self._buffer += data
        if len(self._buffer) > 2 * self._limit + _CHUNK:
            del self._buffer[: -self._limit]
        if data and self._heard is not None:
            self._heard(self.kept)
        return bool(data)
