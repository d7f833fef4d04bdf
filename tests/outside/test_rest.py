"""What the agent does to the disk while nothing happens."""

import time
from pathlib import Path

import pytest

from tests.world import Home, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(300)]

REST_SECONDS = 4.0
"""Twenty looks of the monitor. Longer proves more, and shorter never fails what is right."""


def snapshot(home: Home) -> dict[str, tuple[int, int, int]]:
    """Every file of the agent and of the services: inode, size, and when it was written."""
    found = {}
    for place in (home.state, home.srv):
        for path in place.rglob("*"):
            status = path.lstat()
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def written(home: Home) -> int:
    """Bytes that the agent has handed to a disk."""
    assert home.process is not None
    lines = Path(f"/proc/{home.process.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def unchanged(home: Home) -> tuple[dict[str, tuple[int, int, int]], int] | None:
    """What was written, once nothing comes for longer than a batch may wait."""
    before = snapshot(home), written(home)
    time.sleep(2.5)
    return before if (snapshot(home), written(home)) == before else None


def test_at_rest_nothing_is_written_however_often_somebody_looks(home: Home) -> None:
    """R-PL-8: the probes, a person at the status page, and an API that is read: not a byte."""
    assert home.deploy("one")["state"] == "succeeded"
    before, bytes_before = wait_for("what comes with the next batch", lambda: unchanged(home))
    end = time.monotonic() + REST_SECONDS
    while time.monotonic() < end:
        for path in ("/health", "/status", "/", "/api/v1/events", "/api/v1/deployments", "/api/v1/backups"):
            assert home.get(path).status == 200
    assert snapshot(home) == before
    assert written(home) == bytes_before
