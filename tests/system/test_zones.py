"""Time zones: the one that is named, or the machine's; never another one in silence."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import TZPATH

import pytest

from agent.system.zones import UnknownZone, load

SUMMER = datetime(2026, 7, 1, 12, tzinfo=UTC)


def offset(name: str | None, environ: dict[str, str], localtime: Path) -> float:
    found = SUMMER.astimezone(load(name, environ, localtime)).utcoffset()
    assert found is not None
    return found.total_seconds() / 3600


def berlin() -> Path:
    return next(path for place in TZPATH if (path := Path(place, "Europe/Berlin")).exists())


def test_a_named_zone_counts_before_all_others(tmp_path: Path) -> None:
    assert offset("Asia/Tokyo", {"TZ": "Europe/Berlin"}, tmp_path / "none") == 9


def test_without_a_name_it_is_the_machines(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    link.symlink_to(berlin())
    assert offset(None, {}, link) == 2
    assert str(load(None, {}, link)) == "Europe/Berlin"


@pytest.mark.parametrize("told", ["Asia/Tokyo", ":Asia/Tokyo"])
def test_the_variable_tz_is_what_other_programs_go_by(told: str, tmp_path: Path) -> None:
    assert offset(None, {"TZ": told}, tmp_path / "none") == 9
    assert offset(None, {"TZ": f":{berlin()}"}, tmp_path / "none") == 2


@pytest.mark.parametrize(
    "name", ["Europe/Berln", "", "CET-1CEST", "Europe", "../../etc/passwd", "/etc/passwd", "a\0b"]
)
def test_an_unknown_zone_is_an_error_and_not_utc(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownZone, match="tzdata"):
        load(name, {}, tmp_path)


def test_a_variable_that_cannot_be_read_is_an_error_and_not_utc(tmp_path: Path) -> None:
    with pytest.raises(UnknownZone, match="TZ=CET-1CEST"):
        load(None, {"TZ": "CET-1CEST"}, tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
def test_a_machine_without_a_zone_is_an_error_and_not_utc(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "localtime"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnknownZone, match="cannot be read"):
        load(None, {}, path)
