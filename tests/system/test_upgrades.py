"""What is written down of an upgrade, below a directory."""

import stat
from pathlib import Path

import pytest
from msgspec import structs

from agent.core.errors import StepFailed
from agent.core.upgrading import LAST, MARK, Phase
from agent.system.upgrades import Upgrades
from tests.core.test_upgrading import MARK as AN_UPGRADE


@pytest.fixture
def upgrades(tmp_path: Path) -> Upgrades:
    return Upgrades(tmp_path)


def test_an_upgrade_is_pending_from_its_mark_to_its_end(upgrades: Upgrades) -> None:
    assert upgrades.pending() is None
    upgrades.write(AN_UPGRADE)
    assert upgrades.pending() == AN_UPGRADE
    assert upgrades.last() is None
    ended = structs.replace(AN_UPGRADE, phase=Phase.RETURNED, reason="it ended 3 times by itself")
    upgrades.end(ended)
    assert upgrades.pending() is None
    assert upgrades.last() == ended


def test_everybody_may_read_how_an_upgrade_stands(upgrades: Upgrades, tmp_path: Path) -> None:
    upgrades.write(AN_UPGRADE)
    assert stat.S_IMODE((tmp_path / MARK[1:]).stat().st_mode) == 0o644
    upgrades.end(AN_UPGRADE)
    assert stat.S_IMODE((tmp_path / LAST[1:]).stat().st_mode) == 0o644


def test_a_mark_that_cannot_be_read_is_told(upgrades: Upgrades, tmp_path: Path) -> None:
    upgrades.write(AN_UPGRADE)
    (tmp_path / MARK[1:]).write_bytes(b"{")
    with pytest.raises(StepFailed, match=r"pending\.json cannot be read"):
        upgrades.pending()


def test_files_become_what_they_were(upgrades: Upgrades, tmp_path: Path) -> None:
    """Changed, removed and new ones; it can be done twice."""
    for name in ("changed", "removed", "same"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o640)
    upgrades.save(["/changed", "/removed", "/same", "/new", "/deep/new", "/changed"])
    same = (tmp_path / "same").stat()
    (tmp_path / "changed").write_text("by the new version")
    (tmp_path / "removed").unlink()
    (tmp_path / "new").write_text("by the new version")
    for _ in range(2):
        upgrades.put_back()
    for name in ("changed", "removed"):
        assert (tmp_path / name).read_text() == name
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "same").stat().st_ino == same.st_ino


def test_what_was_remembered_only_its_owner_reads(upgrades: Upgrades) -> None:
    upgrades.save(["/none"])
    assert stat.S_IMODE((upgrades.place / "files.json").stat().st_mode) == 0o600
