"""Where it was measured: what a reader needs to judge the figures."""

import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from agent import __version__

SYNCS = 100


def describe() -> str:
    """One line: date, version, processor, memory, file system, how long it syncs, how busy it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    facts = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"homeport {__version__} ({_revision()})",
        f"{os.cpu_count()} cores {_processor()}",
        f"{memory:.1f} GB",
        f"Linux {platform.release()} {platform.machine()}",
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}",
        f"{_filesystem(Path(tempfile.gettempdir()))} (a synced write of 4 KiB: {_sync():.2f} ms)",
        f"load before the run {load}",
    ]
    return "*" + " · ".join(facts) + "*"


def _processor() -> str:
    known = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return known.group(1).strip() if known else platform.processor() or "unknown"


def _filesystem(path: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, found, *_ = line.split()
        if path.is_relative_to(where) and len(where) >= len(best):
            best, kind = where, found
    return kind


def _revision() -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no git"


def _sync() -> float:
    """Milliseconds that a small durable write takes: the floor under every accepted delivery."""
    taken = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(SYNCS):
            file.write(os.urandom(4096))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return median(taken) * 1000
