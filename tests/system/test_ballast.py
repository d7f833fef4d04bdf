"""F23, F25, M9: space that is put aside, given back piece by piece, and put aside again when there is room."""

import errno
import os
from pathlib import Path

import pytest

from agent.system import ballast as module
from agent.system import files
from agent.system.ballast import PIECE_BYTES, PIECES, Ballast
from agent.system.files import Free

PLENTY = Free(1 << 40, 1 << 20)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[Free]:
    """What the disk says is free: the last of the list."""
    figures = [PLENTY]
    monkeypatch.setattr(files, "free", lambda path: figures[-1])
    return figures


@pytest.fixture
def ballast(tmp_path: Path, free: list[Free]) -> Ballast:
    del free
    return Ballast(tmp_path / "ballast")


def pieces(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "ballast").iterdir())


def test_it_is_really_allocated_and_costs_nothing_the_second_time(ballast: Ballast, tmp_path: Path) -> None:
    assert ballast.restore()
    made = pieces(tmp_path)
    assert len(made) == PIECES
    assert all(place.stat().st_blocks * 512 >= PIECE_BYTES for place in made)
    before = [place.stat().st_ino for place in made]
    assert ballast.restore()
    assert [place.stat().st_ino for place in pieces(tmp_path)] == before
    assert (ballast.short, ballast.why) == (False, "")


def test_a_piece_with_holes_is_none(ballast: Ballast, tmp_path: Path) -> None:
    """A copy of the directory may have made it so."""
    (tmp_path / "ballast").mkdir()
    with (tmp_path / "ballast" / "0").open("wb") as file:
        file.truncate(PIECE_BYTES)
    assert ballast.restore()
    assert (tmp_path / "ballast" / "0").stat().st_blocks * 512 >= PIECE_BYTES


def test_it_is_spent_piece_by_piece_and_says_why(
    ballast: Ballast, tmp_path: Path, free: list[Free], caplog: pytest.LogCaptureFixture
) -> None:
    ballast.restore()
    free.append(Free(0, 5000))
    for left in reversed(range(PIECES)):
        assert ballast.spend()
        assert len(pieces(tmp_path)) == left
        assert ballast.short
    assert not ballast.spend()
    assert ballast.why.startswith(f"0 MiB are free at {tmp_path}, ")
    assert not ballast.restore()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1, "told once"
    free.append(PLENTY)
    assert ballast.restore()
    assert len(pieces(tmp_path)) == PIECES
    assert not ballast.short


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (Free(PIECES * PIECE_BYTES + module.MARGIN_BYTES - 1, 5000), "71 MiB are free"),
        (Free(1 << 40, module.MARGIN_INODES - 1), "999 inodes are free"),
    ],
)
def test_it_is_not_made_where_others_would_lack_the_room(
    ballast: Ballast,
    tmp_path: Path,
    free: list[Free],
    monkeypatch: pytest.MonkeyPatch,
    figures: Free,
    why: str,
) -> None:
    """F25: in the unit of which there is too little."""
    large = os.statvfs_result((4096, 4096, 1 << 30, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: large)
    free.append(figures)
    assert not ballast.restore()
    assert pieces(tmp_path) == []
    assert ballast.why.startswith(why)


def test_a_file_system_that_does_not_count_inodes_lacks_none(ballast: Ballast, free: list[Free]) -> None:
    free.append(Free(1 << 40, None))
    assert ballast.restore()


@pytest.mark.parametrize(("number", "short"), [(errno.ENOSPC, True), (errno.EOPNOTSUPP, False)])
def test_a_disk_that_is_full_is_short_and_one_that_cannot_do_it_goes_without(
    ballast: Ballast, monkeypatch: pytest.MonkeyPatch, number: int, short: bool
) -> None:
    def refuse(handle: int, offset: int, size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert ballast.restore() is not short
    assert ballast.short is short


def test_before_a_start_no_more_is_spent_than_a_start_needs(
    ballast: Ballast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast.restore()
    ballast.ensure()
    assert len(pieces(tmp_path)) == PIECES, "there was enough"
    monkeypatch.setattr(
        files, "free", lambda path: Free((PIECES - len(pieces(tmp_path))) * PIECE_BYTES // 2, 5000)
    )
    ballast.ensure()
    assert len(pieces(tmp_path)) == PIECES - 2
