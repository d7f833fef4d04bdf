"""Starting a process that outlives the agent, and recognising it afterwards.

Who runs is written in one small file, the record: pid, start time in clock ticks, boot id, and notes. The three
together name a process for ever; a pid alone does not. Why a kill at any instant is harmless:

- The record is written by the launcher (`launcher.py`), the very process that then becomes the service, BEFORE
  exec, by write-aside and rename. So no service ever runs without its record, and no record is ever half.
- From before the fork until exec, the launcher and its agent share one lock (flock belongs to the open file, and
  the launcher inherits that). If the agent is killed in between, the lock is released by the launcher's exec or
  death and by nothing else. So whoever holds the lock (`exclusive`) and reads the record reads the last word:
  no late launcher is under way, and what the record names has become the service or is dead. There is no race
  between a killed agent's launcher and the next agent's, because the second cannot be started yet.
- A record that does not read (or has no last line) was cut by a power cut: of an earlier boot, nothing runs.
- A record of another boot names nobody. A container that is started anew in the same boot may reuse the pid, but
  not the start time.

The record is not fsynced, against the house's rule: the process that it names does not survive what would lose it.
"""

import asyncio
import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.system import process

PATIENCE = 10.0
"""Seconds that a launcher may take to exec, and that `exclusive` waits for one of a killed agent."""

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Record:
    """Who was started: `started` in clock ticks since boot; `notes` are the caller's."""

    pid: int
    started: int
    boot: str
    notes: Mapping[str, str]

    def leader(self) -> process.ProcessStat | None:
        """The process itself, perhaps a zombie; None if it is gone or its number is somebody else's by now."""
        if self.boot != process.boot_id():
            return None
        stat = process.stat_of(self.pid)
        return stat if stat and stat.started == self.started else None


@dataclass(frozen=True)
class Plan:
    """What is started. `argv[0]` without a slash is looked for in the PATH of `environment`, which is all it gets."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    output: int
    """An open file, to append to: its standard output and error."""
    record: Path
    notes: Mapping[str, str]
    """Kept in the record; one line each."""
    sockets: tuple[int, ...] = ()
    """Open files that it gets as its descriptors from 3 on, with LISTEN_PID in its environment."""


class LaunchFailed(Exception):
    """It could not be started. `stage` is launch, record, directory or exec; `number` an errno."""

    def __init__(self, stage: str, number: int, reason: str = "") -> None:
        super().__init__(f"{stage}: {reason or os.strerror(number)}")
        self.stage = stage
        self.number = number


@asynccontextmanager
async def exclusive(path: Path, patience: float) -> AsyncIterator[int]:
    """Holds the lock on a service's process; while it is held no launcher is under way. Yields its descriptor.

    Raises TimeoutError if somebody else holds it longer than `patience` seconds, OSError.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # flock cannot be awaited; nearly always it is free at once, and a launcher takes some milliseconds.
        async with asyncio.timeout(patience):
            while not _locked(lock):  # noqa: ASYNC110 - the event would be another process's
                await asyncio.sleep(0.01)
        yield lock
    finally:
        os.close(lock)


def read_record(path: Path) -> Record | None:
    """The record, or None if there is none that is whole. Raises OSError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    lines = text.splitlines()
    if not lines or lines[-1] != "end":
        return None
    fields = {name: value for name, _, value in (line.partition("=") for line in lines[:-1])}
    try:
        return Record(int(fields.pop("pid")), int(fields.pop("started")), fields.pop("boot"), fields)
    except (KeyError, ValueError):
        return None


async def launch(plan: Plan, lock: int) -> int:
    """Starts it, in a session of its own, and returns its pid once exec has happened. The caller holds `lock`.

    Raises LaunchFailed. Cancelled or failed, it has killed what it started. The child is the caller's to reap.
    """
    report, told = os.pipe()
    try:
        try:
            pid = _spawn(plan, lock, told)
        except (OSError, ValueError) as error:
            raise LaunchFailed("launch", getattr(error, "errno", None) or errno.EINVAL, str(error)) from error
        finally:
            os.close(told)
        try:
            _check(await _read_to_end(report, PATIENCE))
        except BaseException:
            _discard(pid)
            raise
    finally:
        os.close(report)
    return pid


def reap(pid: int) -> int | None:
    """Takes a dead child's status: its exit status or the negative number of its signal; None if not ours or alive."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if reaped else None


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _spawn(plan: Plan, lock: int, told: int) -> int:
    """posix_spawn: no Python runs between fork and exec, and no object insists on reaping the child."""
    with ExitStack() as stack:
        source = os.memfd_create("plan")
        stack.callback(os.close, source)
        _write_all(source, _encode(plan))
        os.lseek(source, 0, os.SEEK_SET)
        handles = [source, plan.output, plan.output, lock, told, *plan.sockets]
        actions = []
        for target, handle in enumerate(handles):
            high = fcntl.fcntl(
                handle, fcntl.F_DUPFD_CLOEXEC, 16 + len(handles)
            )  # out of the way of the targets
            stack.callback(os.close, high)
            actions.append((os.POSIX_SPAWN_DUP2, high, target))
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", str(_LAUNCHER)],
            {"LC_ALL": "C.UTF-8"},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )


def _encode(plan: Plan) -> bytes:
    """The plan as the launcher reads it. Raises ValueError for what cannot be told apart again."""
    notes = "".join(f"{name}={value}\n" for name, value in plan.notes.items())
    if notes.count("\n") != len(plan.notes):
        raise ValueError("a note holds a line feed")
    variables = [f"{name}={value}" for name, value in plan.environment.items()]
    counts = str(len(plan.sockets)), str(len(variables))
    fields = [str(plan.record), str(plan.directory), notes, *counts, *variables, *plan.argv]
    if any("\0" in field for field in fields):
        raise ValueError("an argument or a variable holds a NUL")
    return b"\0".join(os.fsencode(field) for field in fields)


def _write_all(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb", closefd=False) as file:
        file.write(data)


async def _read_to_end(handle: int, patience: float) -> bytes:
    """What comes until the other side closes it. Raises LaunchFailed if that takes too long."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    pieces: list[bytes] = []

    def take() -> None:
        piece = os.read(handle, 4096)
        pieces.append(piece)
        if not piece:
            loop.remove_reader(handle)
            closed.set()

    loop.add_reader(handle, take)
    try:
        async with asyncio.timeout(patience):
            await closed.wait()
    except TimeoutError:
        raise LaunchFailed("launch", errno.ETIMEDOUT, f"not started within {patience:g} s") from None
    finally:
        loop.remove_reader(handle)
    return b"".join(pieces)


def _check(report: bytes) -> None:
    """The launcher's report: `ready` and nothing else means exec, or death after it was ready."""
    *_, last = report.decode("ascii", "replace").splitlines() or [""]
    if last == "ready":
        return
    stage, _, number = last.partition(" ")
    if not number.isdigit():
        raise LaunchFailed("launch", errno.ECHILD, "killed before it became the service")
    raise LaunchFailed(stage, int(number))


def _discard(pid: int) -> None:
    """Kills what was just started. It is our child and not reaped yet, so the number is surely its own."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
    for _ in range(50):  # a killed process takes microseconds to die
        if reap(pid) is not None:
            return
        time.sleep(0.001)
