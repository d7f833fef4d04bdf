"""How the C library gives memory back, and what the machine has."""

import ctypes
from contextlib import suppress
from pathlib import Path

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
THRESHOLD = 128 * 1024
"""Bytes. glibc's own figure at the start of a process."""


def return_large_blocks() -> bool:
    """Every block over THRESHOLD gets a mapping of its own, which goes back to the system when it is freed.

    glibc raises the threshold to the largest block that was ever freed; from then on bodies and pieces of files
    lie on the heap between small things that stay, and the process keeps the space: 200 bodies of 1 MiB, of
    which eight are in memory at a time, left 115 MB behind. False where there is no glibc.
    """
    return _mallopt(_M_MMAP_THRESHOLD, THRESHOLD)


def share_one_heap() -> bool:
    """All threads take from one heap. glibc gives each its own, so that they do not wait for each other, and what one
    has freed no other can use: 1 MB after six deployments. The interpreter lets one run at a time anyway.

    Before the first thread. False where there is no glibc.
    """
    return _mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Free pages between things that stay go back to the system. A few milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _mallopt(parameter: int, value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(parameter, value) == 1


def available() -> int | None:
    """Bytes that programs can still take without others being swapped out (proc(5)); None: the kernel does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    figures = dict(line.split(":", 1) for line in text.splitlines())
    words = figures.get("MemAvailable", "").split()
    return int(words[0]) * 1024 if words else None


def counted(root: Path = Path("/sys/fs/cgroup")) -> bool:
    """Whether the kernel counts what a control group takes; if not, no limit of a unit's memory holds. A Raspberry Pi's
    firmware turns it off unless its command line says `cgroup_enable=memory`."""
    with suppress(OSError):
        return "memory" in (root / "cgroup.controllers").read_text(encoding="ascii").split()
    return (root / "memory" / "memory.stat").is_file()  # version 1


def cached(group: str, root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of a control group's files in the page cache: the kernel counts them as its memory, and gives them to
    whoever wants them (`available` has them too). 0 where it does not say. `group` is systemd's ControlGroup."""
    for place in (root, root / "memory"):  # the second one: version 1
        with suppress(OSError, ValueError):
            lines = (place / group.lstrip("/") / "memory.stat").read_text(encoding="ascii").splitlines()
            figures = dict(line.split(" ", 1) for line in lines)
            return sum(int(figures.get(name, "0")) for name in ("active_file", "inactive_file"))
    return 0
