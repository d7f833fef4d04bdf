"""A disk whose plug can be pulled: an ext4 on a device that has a write cache of its own. Needs root.

Two things are lost in a power cut: what the kernel has not handed to the device, and what the device has taken and not
yet written, because nobody told it to flush. FS_IOC_GOINGDOWN without a log flush (M1) loses the first. For the second
the device is a loop over a file of another ext4, which is cut off at the same instant: what was not flushed through
(ext4 barrier -> loop flush -> fsync of that file) was only in that one's page cache, and is gone.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.crash.cut import pull
from tests.disk import mount_image
from tests.world import wait_for

MEGABYTES = 160
DEVICE_MEGABYTES = 200


class Plug:
    """The disk. `mount_point` is where a home has its state and its services, `directory` what keeps its power."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mount_point = directory / "disk"
        self._device = directory / "device"
        self._outer, self._inner = directory / "device.img", self._device / "disk.img"
        self.mount_point.mkdir()
        self._device.mkdir()
        with self._outer.open("wb") as image:
            image.truncate(DEVICE_MEGABYTES << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._outer))
        mount_image(self._outer, self._device)
        with self._inner.open("wb") as image:  # really written: a device has no holes
            for _ in range(MEGABYTES):
                image.write(bytes(1 << 20))
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._inner))
        os.sync()
        mount_image(self._inner, self.mount_point)

    @property
    def mounts(self) -> str:
        """For DYING_MOUNT: the device first, so that nothing reaches it any more."""
        return f"{self._device}:{self.mount_point}"

    def pull(self) -> None:
        """Now."""
        pull(self.mounts)

    def plug_in(self) -> None:
        """After a cut, when nobody uses it any more: both journals are replayed."""
        self.unmount()
        mount_image(self._outer, self._device)
        mount_image(self._inner, self.mount_point)

    def unmount(self) -> None:
        """Takes it out."""
        for place in (self.mount_point, self._device):
            wait_for(f"{place} to be free", partial(_unmounted, place), 60)


def _unmounted(place: Path) -> bool:
    """Somebody may be in it for a moment yet."""
    if not os.path.ismount(place):
        return True
    return subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


@contextmanager
def a_plug() -> Iterator[Plug]:
    """Plugged in, and taken out at the end whatever happened."""
    if os.geteuid() != 0:
        pytest.fail("needs root: mounts loop devices")
    with tempfile.TemporaryDirectory(prefix="homeport-plug-") as directory:
        made = Plug(Path(directory))
        try:
            yield made
        finally:
            made.unmount()


@pytest.fixture
def plug() -> Iterator[Plug]:
    """For one test."""
    with a_plug() as made:
        yield made
