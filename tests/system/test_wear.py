"""R-PL-8: what was written, as the kernel counts it."""

import os
from pathlib import Path

import pytest

from agent.system import wear


def test_what_a_process_wrote_is_what_the_kernel_says_of_it() -> None:
    before = wear.written_by(os.getpid())
    assert before >= 0
    told = Path(f"/proc/{os.getpid()}/io").read_text("ascii")
    assert f"\nwrite_bytes: {before}\n" in told


def test_a_process_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="999999999"):
        wear.written_by(999999999)


def test_a_kernel_that_does_not_count_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "io").write_text("rchar: 5\n")
    with pytest.raises(OSError, match="does not count"):
        wear.written_by(7, tmp_path)


def test_what_a_disk_took_is_counted_in_sectors_of_512_bytes(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    place = tmp_path / f"{os.major(device)}:{os.minor(device)}"
    place.mkdir()
    (place / "stat").write_text("   110   62   9050   140   86   33   2000   99   0   180   240\n")
    assert wear.written_to(tmp_path, tmp_path) == 2000 * 512


def test_what_is_no_disk_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="stat"):
        wear.written_to(tmp_path, tmp_path)
