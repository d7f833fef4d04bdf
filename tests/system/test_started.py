"""What is known of the release that a unit runs."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.adapters.runtimes.started import Started
from agent.system import files

OLD, NEW = "1-aaaaaaa", "2-bbbbbbb"


@pytest.fixture
def current(tmp_path: Path) -> Path:
    link = tmp_path / "current"
    link.symlink_to(f"releases/{OLD}")
    return link


def point(current: Path, release: str) -> None:
    current.unlink()
    current.symlink_to(f"releases/{release}")


def started(current: Path, unit: str = "app.service") -> Started:
    return Started(current.parent / "state" / "unit", unit, current)


def test_of_what_was_not_started_here_nothing_is_known(current: Path) -> None:
    assert started(current).release_of("i1") == ""


def test_what_was_noted_is_known_also_by_the_next_agent(current: Path) -> None:
    started(current).note(OLD, "i1")
    point(current, NEW)
    assert started(current).release_of("i1") == OLD


def test_a_restart_by_somebody_else_runs_what_current_names(current: Path) -> None:
    """systemd's own, or a boot."""
    notes = started(current)
    notes.note(OLD, "i1")
    assert notes.release_of("i2") == OLD
    point(current, NEW)
    assert started(current).release_of("i2") == OLD


def test_who_was_started_while_current_named_another_is_unknown_for_good(current: Path) -> None:
    """F10: the way back points to the old release again, and must not be taken for having been."""
    notes = started(current)
    notes.note(OLD, "i1")
    point(current, NEW)
    assert notes.release_of("i2") == ""
    point(current, OLD)
    assert started(current).release_of("i2") == ""
    assert started(current).release_of("i3") == OLD


def test_the_note_of_another_unit_says_nothing(current: Path) -> None:
    started(current).note(OLD, "i1")
    assert started(current, "other.service").release_of("i1") == ""


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"unit": "app.service"}'])
def test_a_torn_note_says_nothing(current: Path, torn: str) -> None:
    notes = started(current)
    notes.note(OLD, "i1")
    (current.parent / "state" / "unit").write_text(torn)
    assert notes.release_of("i1") == ""


def test_what_cannot_be_noted_is_an_error_and_no_guess(
    current: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = started(current)
    notes.note(OLD, "i1")
    point(current, NEW)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(OSError, match="No space"):
        notes.release_of("i2")


def test_many_threads_do_not_take_each_others_files_away(current: Path) -> None:
    notes = started(current)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(notes.note, OLD, f"i{number}") for number in range(200)]:
            done.result()
    assert [path.name for path in (current.parent / "state").iterdir()] == ["unit"]
