"""What a process costs, read from /proc: memory, processor time, bytes written."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 0.01
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """Of a command: wall seconds, and the sum of the peaks of the processes that it was made of, in bytes."""

    seconds: float
    peak: int


def memory(pid: int, what: str = "VmRSS") -> int:
    """Bytes; 0 if the process is gone. `VmHWM` is the peak."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
    return 0


def proportional(pid: int) -> int:
    """PSS in bytes: shared pages counted by their share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def children(pid: int) -> list[int]:
    """The direct ones; zombies too."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def processor_seconds(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written(pid: int) -> int:
    """Bytes that it caused to be written to the device."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def measure(argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end. Raises CalledProcessError with its output.

    Peaks are looked at every LOOK_SECONDS: the rusage of a child would count what its parent weighed at the fork.
    """
    begun = time.perf_counter()
    with subprocess.Popen(
        argv, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        peaks: dict[int, int] = {}
        while process.poll() is None:
            _look(process.pid, peaks)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
        seconds = time.perf_counter() - begun
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv, output)
    return Cost(seconds, sum(peaks.values()))


def _look(pid: int, peaks: dict[int, int]) -> None:
    peaks[pid] = max(peaks.get(pid, 0), memory(pid, "VmHWM"))
    for child in children(pid):
        _look(child, peaks)
