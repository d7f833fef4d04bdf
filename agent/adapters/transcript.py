"""What is told of commands that build or migrate: their output, cleaned and redacted, and why one of them failed."""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.core.errors import StepFailed
from agent.core.model import Fault
from agent.core.text import clean, clean_lines, tail
from agent.core.units import write_size
from agent.system import files

LIMIT = 65536
"""Bytes of output that are kept, for all commands together."""

_MARGIN = 4096
_FULL = ("No space left on device", "Disk quota exceeded", "ENOSPC", "Errno 28")
_NO_MEMORY = re.compile(
    r"MemoryError|Cannot allocate memory|\bENOMEM\b|Errno 12\b|std::bad_alloc|[Oo]ut of memory|[Mm]emory exhausted"
    r"|(?:memory allocation of|failed to map) |virtual memory exhausted|OutOfMemory|heap space"
)
_ABORTED = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGTRAP, signal.SIGKILL})


@dataclass(frozen=True)
class Task:
    """How to speak of commands that belong together, and the codes of their failures."""

    name: str
    failed: str
    timed_out: str
    memory: int | None = None
    """The limit that each of their programs has."""


class Transcript:
    """`redact` hides secrets; below `floor` free bytes the disk counts as full."""

    def __init__(self, redact: Callable[[str], str], floor: int = 64 << 20) -> None:
        self._redact = redact
        self._floor = floor

    def join(self, output: str, command: str, printed: bytes, *, running: bool = False) -> str:
        """What was said before, and what this command has printed: the last LIMIT bytes, or all of it."""
        text = (_whole_lines(printed) if running else printed).decode("utf-8", "replace")
        if len(printed) >= LIMIT:  # a secret may have been cut in two at the beginning: it goes as a whole
            text = "…\n" + self._redact(text)[_MARGIN:]
        return tail(output + self.shown(f"$ {command}\n{text}"), LIMIT)

    def shown(self, text: str) -> str:
        """Hidden before the control characters go and after: either may have hidden it from the other."""
        shown = self._redact(clean_lines(self._redact(text)))
        return shown if not shown or shown.endswith("\n") else f"{shown}\n"

    def failure(
        self,
        task: Task,
        command: str,
        status: int,
        printed: bytes,
        directory: Path,
        output: str,
        *,
        oom: str = "",
    ) -> StepFailed:
        """Why a command failed. `oom`: whose limit of memory the kernel ended a program for."""
        text = printed.decode("utf-8", "replace")
        if any(words in text for words in _FULL) or self._is_full(directory):
            return StepFailed("disk-full", f"the disk filled up during {task.name}", output=output)
        how = _how_it_ended(status, text, task.memory, oom)
        return StepFailed(task.failed, f"{clean(command, 120)} {how}", output=output, fault=Fault.COMMIT)

    def _is_full(self, directory: Path) -> bool:
        try:
            free = files.free(directory)
        except OSError:
            return False
        return free.bytes < self._floor or (free.inodes is not None and free.inodes < 1000)


def too_long(task: Task, seconds: float, command: str, output: str) -> StepFailed:
    """The deadline came first."""
    message = f"{task.name} took longer than {seconds:g} seconds, in: {clean(command, 120)}"
    return StepFailed(task.timed_out, message, output=output)


def _whole_lines(printed: bytes) -> bytes:
    """Without the line that is still being printed: a secret in it may be half there, and not be recognized."""
    return printed[: max(printed.rfind(b"\n"), printed.rfind(b"\r")) + 1]


def _how_it_ended(status: int, text: str, memory: int | None, oom: str) -> str:
    """A shell tells the signal of its child as 128 and more. A limit of memory is known by what programs say of it."""
    number = -status if status < 0 else status - 128
    try:
        how = f"was ended by {signal.Signals(number).name}"
    except ValueError:
        how = f"ended with status {status}"
    limit = f"`deploy.build.memory`, {write_size(memory)}" if memory is not None else ""
    if oom:
        return f"{how}: it took more memory than {oom}"
    if limit and _NO_MEMORY.search(text):
        return f"{how}: it asked for more memory than {limit}"
    if number in _ABORTED and (limit or number == signal.SIGKILL):
        return f"{how}; perhaps the memory did not suffice{f' ({limit})' if limit else ''}"
    return how
