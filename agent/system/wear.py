"""What was written to a disk, as the kernel counts it: a card wears with every write.

Sources: proc(5), and block/stat.rst of Linux's documentation.
"""

import os
from pathlib import Path

SECTOR = 512
"""Bytes: the kernel counts in these, whatever the disk's own are."""
_SECTORS_WRITTEN = 6


def written_by(pid: int, proc: Path = Path("/proc")) -> int:
    """Bytes that a process, and those of its children that have ended, sent to disks. Raises OSError; for another
    user's process only root may ask."""
    for line in (proc / str(pid) / "io").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    raise FileNotFoundError(f"the kernel does not count what process {pid} writes")


def written_to(place: Path, devices: Path = Path("/sys/dev/block")) -> int:
    """Bytes that the disk below this path took since the boot, or since it was plugged in. Raises OSError where it
    is no disk of its own: a network's, memory, an overlay."""
    device = place.stat().st_dev
    stat = devices / f"{os.major(device)}:{os.minor(device)}" / "stat"
    return int(stat.read_text(encoding="ascii").split()[_SECTORS_WRITTEN]) * SECTOR


def since_boot() -> float:
    """Seconds."""
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
