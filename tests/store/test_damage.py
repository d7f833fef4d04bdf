"""R-PL-4, F29: a write-ahead log that a card has torn. What is read from it are whole commits, in their order, from the
first one on: never a hole, never half of one. Or the agent says that the state cannot be read."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.errors import Unavailable
from agent.store.database import Database

COMMITS = 60
STEP, LAST = 512, 16 * 1024
EVENT = "INSERT INTO events(at, name, data) VALUES(1, ?, '{}')"
Damage = Callable[[Path], None]


@pytest.fixture
async def torn(tmp_path: Path) -> Path:
    """State whose log holds 60 commits of two rows each and was never folded in, as after a power cut."""
    place = tmp_path / "before"
    place.mkdir()
    database = Database(place / "state.db")
    await database.open()
    for number in range(COMMITS):
        await database.write(
            lambda connection, number=number: [  # type: ignore[misc]
                connection.execute(EVENT, (f"{number}{half}",)) for half in "ab"
            ]
        )
    after = tmp_path / "after"
    shutil.copytree(place, after)
    await database.close()
    assert (after / "state.db-wal").stat().st_size > LAST
    return after


async def found_in(place: Path) -> int | None:
    """How many commits are read; None if the state is refused. Whatever is read can be written to."""
    database = Database(place / "state.db")
    try:
        await database.open()
    except Unavailable as refusal:
        if refusal.code == "store-unavailable":
            return None
        raise
    try:
        rows = await database.read(
            lambda connection: connection.execute("SELECT name FROM events ORDER BY id").fetchall()
        )
        names = [row[0] for row in rows]
        assert names == [f"{number}{half}" for number in range(len(names) // 2) for half in "ab"], names
        await database.write(lambda connection: connection.execute(EVENT, ("more",)))
        return len(names) // 2
    finally:
        await database.close()


def cut(at: int) -> Damage:
    def damage(log: Path) -> None:
        with log.open("r+b") as file:
            file.truncate(at)

    return damage


def overwrite(at: int, data: bytes) -> Damage:
    def damage(log: Path) -> None:
        with log.open("r+b") as file:
            file.seek(at)
            file.write(data)

    return damage


def flip(at: int) -> Damage:
    def damage(log: Path) -> None:
        overwrite(at, bytes([log.read_bytes()[at] ^ 0x40]))(log)

    return damage


async def _each(torn: Path, tmp_path: Path, damages: list[Damage], *, shm: bool = True) -> list[int | None]:
    found: list[int | None] = []
    for number, damage in enumerate(damages):
        place = tmp_path / f"copy-{number}"
        shutil.copytree(torn, place)
        damage(place / "state.db-wal")
        if not shm:
            (place / "state.db-shm").unlink(missing_ok=True)
        found.append(await found_in(place))
        await asyncio.to_thread(shutil.rmtree, place)
    return found


async def test_the_log_as_it_is_has_every_commit(torn: Path, tmp_path: Path) -> None:
    assert await _each(torn, tmp_path, [lambda log: None]) == [COMMITS]
    assert await _each(torn, tmp_path, [lambda log: None], shm=False) == [COMMITS]


async def test_a_log_that_is_cut_off_keeps_the_commits_before_the_cut(torn: Path, tmp_path: Path) -> None:
    size = (torn / "state.db-wal").stat().st_size
    found = await _each(torn, tmp_path, [cut(at) for at in range(size - LAST, size, STEP)], shm=False)
    assert None not in found
    assert found == sorted(found, key=lambda number: number or 0), "the longer the log, the more of it"
    assert found[0] != found[-1]


@pytest.mark.parametrize("shm", [True, False])
async def test_one_byte_that_changed_ends_the_log_there(torn: Path, tmp_path: Path, shm: bool) -> None:
    size = (torn / "state.db-wal").stat().st_size
    damages = [flip(at) for at in range(size - LAST + 7, size, STEP)]
    found = await _each(torn, tmp_path, damages, shm=shm)
    assert all(number is None or number <= COMMITS for number in found)


async def test_a_log_of_zeros_is_an_empty_one(torn: Path, tmp_path: Path) -> None:
    size = (torn / "state.db-wal").stat().st_size
    found = await _each(torn, tmp_path, [overwrite(0, bytes(size)), cut(0)], shm=False)
    assert found == [0, 0]


async def test_a_piece_of_zeros_ends_the_log_there(torn: Path, tmp_path: Path) -> None:
    size = (torn / "state.db-wal").stat().st_size
    damages = [overwrite(at, bytes(4096)) for at in range(size - LAST, size - 4096, 4096)]
    found = await _each(torn, tmp_path, damages, shm=False)
    assert all(number is not None and number < COMMITS for number in found)
