"""Versions side by side below a directory, with real virtual environments only in tests/e2e."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from agent.core.errors import Refused, StepFailed
from agent.system import versions


def a_wheel(path: Path, metadata: str = "Name: homeport\nVersion: 0.2.0\n") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("homeport-0.2.0.dist-info/METADATA", metadata)
    return path


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A first installation: a real directory."""
    made = tmp_path / "homeport"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "homeport").write_text("first")
    return made


def test_a_wheel_says_its_version_and_is_known_by_its_bytes(tmp_path: Path) -> None:
    wheel = a_wheel(tmp_path / "x.whl")
    assert versions.wheel(wheel) == ("0.2.0", hashlib.sha256(wheel.read_bytes()).hexdigest())


def test_what_is_no_wheel_of_homeport_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("a", "b")
    other = a_wheel(tmp_path / "other.whl", "Name: other\nVersion: 0.2.0\n")
    long = a_wheel(tmp_path / "long.whl", "Name: homeport\nVersion: 0.2.0\n" + "X: y\n" * 300_000)
    for path in (tmp_path / "text", tmp_path / "archive", other, long, tmp_path / "none", tmp_path):
        with pytest.raises(Refused) as refused:
            versions.wheel(path)
        assert refused.value.code == "wheel-refused"


def test_the_first_installation_becomes_a_link_and_keeps_its_files(tmp_path: Path, prefix: Path) -> None:
    found = versions.adopt(prefix, tmp_path / "homeport.d", "0.1.0")
    assert found == tmp_path / "homeport.d" / "0.1.0"
    assert not found.is_symlink()
    assert prefix.is_symlink()
    assert prefix.resolve() == found
    assert (prefix / "bin" / "homeport").read_text() == "first"
    assert versions.complete(found) == ""


def test_a_power_cut_before_both_change_places_leaves_what_is_done_anew(tmp_path: Path, prefix: Path) -> None:
    place = tmp_path / "homeport.d" / "0.1.0"
    place.parent.mkdir()
    place.symlink_to(place)
    assert (prefix / "bin" / "homeport").read_text() == "first"
    assert versions.adopt(prefix, place.parent, "0.1.0") == place
    assert (prefix / "bin" / "homeport").read_text() == "first"
    assert prefix.is_symlink()


def test_what_is_a_link_already_stays_as_it_is(tmp_path: Path, prefix: Path) -> None:
    for _ in range(2):
        versions.adopt(prefix, tmp_path / "homeport.d", "0.1.0")
    assert [path.name for path in (tmp_path / "homeport.d").iterdir()] == ["0.1.0"]


def test_names_that_cannot_change_places_are_told(tmp_path: Path, prefix: Path) -> None:
    with pytest.raises(StepFailed, match="cannot become a link"):
        versions.exchange(prefix, tmp_path / "none")


def test_the_link_leads_elsewhere_without_ever_missing(tmp_path: Path, prefix: Path) -> None:
    versions.adopt(prefix, tmp_path / "homeport.d", "0.1.0")
    (tmp_path / ".homeport.1234.partial").symlink_to("left by a cut")
    new = tmp_path / "homeport.d" / "0.2.0"
    new.mkdir()
    for _ in range(2):
        versions.switch(prefix, new)
        assert prefix.resolve() == new
    assert sorted(path.name for path in tmp_path.iterdir()) == ["homeport", "homeport.d"]


def test_what_is_whole_is_not_installed_again(tmp_path: Path) -> None:
    wheel, digest = a_wheel(tmp_path / "x.whl"), "0" * 64
    for known in ("", digest):
        place = tmp_path / f"d{known}"
        place.mkdir()
        (place / versions.COMPLETE).write_text(known)
        assert not versions.build(place, wheel, digest, {})


def test_what_pip_cannot_install_is_told_and_does_not_count(tmp_path: Path) -> None:
    """A real pip, and a wheel that is none to it."""
    wheel = a_wheel(tmp_path / "homeport-0.2.0-py3-none-any.whl")
    place = tmp_path / "homeport.d" / "0.2.0"
    with pytest.raises(StepFailed) as failed:
        versions.build(place, wheel, "0" * 64, {"PIP_NO_INDEX": "1"})
    assert failed.value.code == "wheel-not-installed"
    assert "pip install failed" in failed.value.message
    assert not place.exists()


def test_what_a_power_cut_left_of_an_installation_is_swept_away(tmp_path: Path, prefix: Path) -> None:
    place = versions.adopt(prefix, tmp_path / "homeport.d", "0.1.0")
    (tmp_path / "homeport.d" / "0.2.0" / "bin").mkdir(parents=True)
    (tmp_path / "homeport.d" / "0.0.9").symlink_to(tmp_path / "homeport.d" / "0.0.9")  # of `adopt`, in a cut
    (place / versions.COMPLETE).unlink()  # as somebody made it by hand
    versions.sweep(tmp_path / "homeport.d", place)
    assert list((tmp_path / "homeport.d").iterdir()) == [place]


def test_a_version_that_is_half_removed_does_not_count(tmp_path: Path, prefix: Path) -> None:
    place = versions.adopt(prefix, tmp_path / "homeport.d", "0.1.0")
    assert versions.size(place) == 5
    versions.remove(place)
    assert not place.exists()
    versions.remove(place)
