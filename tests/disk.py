"""A disk of one's own for tests that cut, fill or lose it: an ext4 on a loop device. Needs root."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from tests.world import wait_for

MEGABYTES = 256


def mount_image(image: Path, place: Path) -> None:
    """An ext4 in a file, on a loop device; commit=300: nothing is written by the clock.

    Two processes that look for a free loop device at the same time find the same one: whoever comes second tries again.
    """
    command = ["mount", "-o", "loop,commit=300", str(image), str(place)]
    wait_for("a loop device", lambda: _mounted(command), 60)


def _mounted(command: list[str]) -> bool:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0 or "failed to setup loop device" in done.stderr, done.stderr
    return done.returncode == 0


class Disk:
    """An ext4 of its own, whose plug can be pulled."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._image = directory / "disk.img"
        self.mount_point = directory / "disk"
        self.mount_point.mkdir()
        with self._image.open("wb") as image:
            image.truncate(MEGABYTES << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        self.mount()

    def mount(self) -> None:
        """Plugs it in; the journal of the file system is replayed. commit=300: nothing is written by the clock."""
        mount_image(self._image, self.mount_point)

    def fill(self, leave: int = 0) -> Path:
        """Takes all space but `leave` bytes, with one file; whoever removes it gives the space back."""
        filler = self.mount_point / "filler"
        for piece in (65536, 1024):
            with filler.open("ab", buffering=0) as file, suppress(OSError):
                while leave == 0 or self.free > leave:  # root may take what is reserved for it, too
                    file.write(bytes(piece))
        os.sync()
        return filler

    def fill_inodes(self) -> Path:
        """Takes all inodes, though bytes are free, with empty files in one directory."""
        filler = self.mount_point / "many"
        filler.mkdir()
        with suppress(OSError):
            for number in count():
                (filler / str(number)).touch()
        os.sync()
        return filler

    @property
    def free(self) -> int:
        """Bytes that a user may still take."""
        found = os.statvfs(self.mount_point)
        return found.f_bavail * found.f_frsize

    def fail(self) -> None:
        """An error of the file system, after which it is read-only: `errors=remount-ro`, as a Pi's root has it."""
        subprocess.run(["mount", "-o", "remount,errors=remount-ro", str(self.mount_point)], check=True)
        device = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", str(self.mount_point)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("a test\n", encoding="ascii")

    def unmount(self) -> None:
        """Takes it out."""
        subprocess.run(["umount", str(self.mount_point)], check=True)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Mounted, and unmounted at the end whatever happened."""
    if os.geteuid() != 0:
        pytest.fail("needs root: mounts a loop device")
    with tempfile.TemporaryDirectory(prefix="homeport-power-") as directory:
        made = Disk(Path(directory))
        try:
            yield made
        finally:
            made.unmount()
