"""What every Place promises, over real directories."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from agent.adapters.backup import Place as RealPlace
from agent.core.errors import StepFailed
from agent.core.ports import Place
from agent.core.restores import Swap
from tests.fakes import START


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A service's directory with a tree and a file."""
    home = tmp_path / "service"
    (home / "shared" / "data").mkdir(parents=True)
    (home / "shared" / "data" / "f").write_text("old")
    (home / "shared" / "one").write_text("old")
    return home


@pytest.fixture(params=["directory"])
def place(request: pytest.FixtureRequest, home: Path) -> Place:
    """Every place that there is."""
    return {"directory": lambda: RealPlace(home)}[request.param]()


PATHS = {"shared/data": True, "shared/one": True, "shared/never": False}


async def planned(place: Place, paths: Mapping[str, bool] = PATHS, **options: object) -> tuple[Swap, ...]:
    wish: dict[str, object] = {"databases": frozenset(), "id": "r1", "at": START}
    return await place.plan(paths, **(wish | options))  # type: ignore[arg-type]


async def staged(place: Place, paths: Mapping[str, bool] = PATHS, **options: object) -> tuple[Swap, ...]:
    """Prepared, with something new at each path."""
    swaps = await planned(place, paths, **options)
    await place.prepare(swaps)
    for swap in swaps:
        if swap.present and swap.path.endswith("data"):
            os.mkdir(swap.staged)  # noqa: PTH102 - pathlib's is refused in coroutines
            write(f"{swap.staged}/f", "new")
        elif swap.present:
            write(swap.staged, "new")
    return swaps


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


def read(path: str) -> str:
    return Path(path).read_text()


def names(home: Path) -> list[str]:
    """What stands beside the data."""
    return sorted(path.name for path in (home / "shared").iterdir())


def seen(home: Path) -> dict[str, str]:
    """Every file of the service, but for what is kept and what is staged."""
    return {
        str(path.relative_to(home)): path.read_text()
        for path in sorted(home.rglob("*"))
        if path.is_file() and "pre-restore" not in str(path) and ".partial" not in str(path)
    }


OLD = {"shared/data/f": "old", "shared/one": "old"}
NEW = {"shared/data/f": "new", "shared/one": "new"}


async def test_planning_and_preparing_touch_nothing_that_is_there(place: Place, home: Path) -> None:
    swaps = await staged(place)
    assert [swap.path for swap in swaps] == [str(home / path) for path in PATHS]
    assert seen(home) == OLD
    await place.discard(swaps)
    assert names(home) == ["data", "one"]


async def test_what_is_staged_takes_the_place_of_what_is_there(place: Place, home: Path) -> None:
    swaps = await staged(place)
    await place.swap(swaps)
    assert seen(home) == NEW
    assert read(f"{swaps[0].kept}/f") == "old"
    assert read(swaps[1].kept) == "old"
    await place.swap(swaps)
    assert seen(home) == NEW, "a second time nothing happens"
    await place.discard(swaps)
    await place.forget(swaps)
    assert names(home) == ["data", "one"]
    await place.forget(swaps)


async def test_what_is_kept_takes_its_place_again(place: Place, home: Path) -> None:
    swaps = await staged(place)
    await place.swap(swaps)
    (home / "shared" / "never").write_text("made by what was started")
    await place.put_back(swaps)
    assert seen(home) == OLD
    await place.put_back(swaps)
    assert seen(home) == OLD, "a second time nothing happens"
    await place.discard(swaps)
    assert names(home) == ["data", "one"]


async def test_putting_back_what_was_never_swapped_changes_nothing(place: Place, home: Path) -> None:
    swaps = await staged(place)
    await place.put_back(swaps)
    assert seen(home) == OLD


@pytest.mark.parametrize("way", ["swap", "put_back"])
async def test_cut_off_at_any_rename_either_direction_is_finished(
    place: Place, home: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """F13: and at no instant is a path half of the one and half of the other."""
    paths = PATHS | {"shared/app.db": True}
    number, cut = 0, True
    while cut:
        number += 1
        (home / "shared" / "app.db").write_text("old")
        (home / "shared" / "app.db-wal").write_text("old log")
        swaps = await staged(
            place, paths, databases={"shared/app.db"}, id=f"r{number}", at=START + timedelta(days=number)
        )
        if way == "put_back":
            await place.swap(swaps)
            (home / "shared" / "app.db-wal").write_text("new log")
            (home / "shared" / "never").write_text("new")
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", failing(Path.rename, number))
            patched.setattr(Path, "replace", failing(Path.replace, 99))
            try:
                await (place.swap(swaps) if way == "swap" else place.put_back(swaps))
                cut = False
            except StepFailed:
                cut = True
        there = seen(home)
        assert all(text in ("old", "new", "old log", "new log") for text in there.values())
        if cut:
            await (place.swap(swaps) if way == "swap" else place.put_back(swaps))
        expected = (
            NEW | {"shared/app.db": "new"}
            if way == "swap"
            else OLD | {"shared/app.db": "old", "shared/app.db-wal": "old log"}
        )
        assert seen(home) == expected, number
        if way == "swap":
            assert read(swaps[3].kept + "-wal") == "old log"
        await place.discard(swaps)
        await place.forget(swaps)
        for path, text in OLD.items():
            (home / path).write_text(text)
    assert number > 4


def failing(really: Callable[[Path, Path], Path], number: int) -> Callable[[Path, Path], Path]:
    left = [number]

    def rename(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(5, "cut off", str(path))
        return really(path, target)

    return rename


async def test_what_was_made_between_two_cuts_is_kept_as_well(place: Place, home: Path) -> None:
    """Something started the service while nobody looked: it made its data anew where there was none."""
    swaps = await staged(place, {"shared/one": True})
    (home / "shared" / "one").rename(swaps[0].kept)
    (home / "shared" / "one").write_text("made meanwhile")
    await place.swap(swaps)
    assert (home / "shared" / "one").read_text() == "new"
    kept = {path.read_text() for path in (home / "shared").glob("one.pre-restore-*")}
    assert kept == {"old", "made meanwhile"}
    await place.discard(swaps)
    await place.forget(swaps)
    assert names(home) == ["data", "one"]


async def test_a_path_that_was_there_before_is_never_a_kept_one(place: Place, home: Path) -> None:
    first = await planned(place)
    write(first[0].kept, "")
    assert (await planned(place))[0].kept != first[0].kept


async def test_two_paths_that_lead_to_one_place_are_refused(place: Place, home: Path) -> None:
    (home / "shared" / "same").symlink_to("data")
    with pytest.raises(StepFailed) as caught:
        await planned(place, {"shared/data": True, "shared/same": True})
    assert caught.value.code == "restore-place"


@pytest.mark.root
async def test_a_link_that_the_service_has_made_is_refused(place: Place, home: Path) -> None:
    """It would lead the swap to what is not the service's."""
    (home / "shared" / "theirs").symlink_to("data")
    os.lchown(home / "shared" / "theirs", 65534, 65534)
    with pytest.raises(StepFailed) as caught:
        await planned(place, {"shared/theirs": True})
    assert caught.value.code == "restore-place"


async def test_a_mount_point_is_refused(place: Place, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "data")
    with pytest.raises(StepFailed) as caught:
        await planned(place)
    assert caught.value.code == "restore-place"


async def test_what_is_there_is_measured_and_counted(place: Place, home: Path) -> None:
    (part,) = await place.sizes(["shared/data"])
    assert (part.path, part.files, part.bytes) == ("shared/data", 1, 3)
    assert [(part.files, part.bytes) for part in await place.sizes(["shared/never"])] == [(0, 0)]
    with closing(sqlite3.connect(home / "shared" / "app.db")) as connection, connection:
        connection.execute("CREATE TABLE t(id INTEGER)")
    assert await place.rows("shared/app.db") == {"t": 0}
    assert await place.rows("shared/never") is None
