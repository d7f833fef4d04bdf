"""The plug itself: what a power cut of `tests/crash/plug.py` takes, and what it leaves."""

import mmap
import os
from pathlib import Path

import pytest

from tests.crash.plug import Plug, plug

__all__ = ["plug"]

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

BLOCK = 4096


def test_only_what_was_flushed_through_survives(plug: Plug) -> None:
    """M1, M2: nothing in the kernel's cache, and nothing in the device's either."""
    (plug.mount_point / "kept").write_bytes(b"old" * 1000)
    (plug.mount_point / "device").write_bytes(b"o" * BLOCK)
    os.sync()
    (plug.mount_point / "lost").write_bytes(b"new")
    (plug.mount_point / "kept.partial").write_bytes(b"new" * 1000)
    (plug.mount_point / "kept.partial").rename(plug.mount_point / "kept")
    write_through(plug.mount_point / "device", b"n" * BLOCK)  # the device has it, and was told no flush
    assert (plug.mount_point / "device").read_bytes() == b"n" * BLOCK
    plug.pull()
    plug.plug_in()
    assert not (plug.mount_point / "lost").exists()
    assert (plug.mount_point / "kept").read_bytes() == b"old" * 1000
    assert (plug.mount_point / "device").read_bytes() == b"o" * BLOCK


def test_what_was_synced_survives(plug: Plug) -> None:
    """M2: a file and its directory."""
    written = plug.mount_point / "new"
    with written.open("wb") as file:
        file.write(b"new" * 1000)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(plug.mount_point, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    write_through(written, b"x" * BLOCK, sync=True)
    plug.pull()
    plug.plug_in()
    assert written.read_bytes() == b"x" * BLOCK


def write_through(path: Path, block: bytes, *, sync: bool = False) -> None:
    """Past the kernel's cache, straight to the device."""
    handle = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, BLOCK) as aligned:
            aligned.write(block)
            os.write(handle, aligned)
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)
