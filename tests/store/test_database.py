"""The writer: group commit, errors that stay where they belong, migrations."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.errors import Unavailable
from agent.store import database as module
from agent.store.database import BATCH_LIMIT, Database
from agent.store.schema import MIGRATIONS

EVENT = "INSERT INTO events(at, name, data) VALUES(1, ?, '{}')"


def _names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM events ORDER BY id")]


async def test_a_write_is_in_the_file_when_it_returns(database: Database, tmp_path: Path) -> None:
    await database.write(lambda connection: connection.execute(EVENT, ("one",)))
    assert _names(tmp_path / "state.db") == ["one"]


async def test_the_file_is_durable_and_private(database: Database, tmp_path: Path) -> None:
    """M3: with synchronous=NORMAL a power cut lost 20 of 20 commits."""
    settings = await database.write(
        lambda connection: [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    )
    assert settings == ["wal", 2, 1]
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0


async def test_what_each_connection_is_allowed_is_set(database: Database) -> None:
    def settings(connection: sqlite3.Connection) -> dict[str, object]:
        names = ("foreign_keys", "trusted_schema", "query_only", "wal_autocheckpoint", "journal_size_limit")
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    writing, reading = await database.write(settings), await database.read(settings)
    assert (writing["wal_autocheckpoint"], writing["journal_size_limit"]) == (1000, 4 << 20)
    assert [(each["foreign_keys"], each["trusted_schema"]) for each in (writing, reading)] == [(1, 0), (1, 0)]
    assert (writing["query_only"], reading["query_only"]) == (0, 1)


async def test_what_nobody_waits_for_and_fails_is_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        raise KeyError("mine")

    database.write_soon(lambda connection: None)
    database.write_soon(wrong)
    await database.write(lambda connection: None)
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["records that nobody waits for were not written (1): 'mine'"]


async def test_one_failing_write_does_not_take_its_neighbours_along(
    database: Database, tmp_path: Path
) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute(EVENT, ("wrong",))
        raise KeyError("mine")

    results = await asyncio.gather(
        database.write(lambda connection: connection.execute(EVENT, ("before",))),
        database.write(wrong),
        database.write(lambda connection: connection.execute(EVENT, ("after",))),
        return_exceptions=True,
    )
    assert isinstance(results[1], KeyError)
    assert _names(tmp_path / "state.db") == ["before", "after"]


async def test_a_broken_constraint_concerns_its_own_write_only(database: Database) -> None:
    insert = "INSERT INTO services(name) VALUES('one')"
    await database.write(lambda connection: connection.execute(insert))
    results = await asyncio.gather(
        database.write(lambda connection: connection.execute(insert)),
        database.write(lambda connection: connection.execute("INSERT INTO services(name) VALUES('two')")),
        return_exceptions=True,
    )
    assert isinstance(results[0], sqlite3.IntegrityError)
    assert not isinstance(results[1], BaseException)


async def test_writes_that_wait_together_share_a_commit(database: Database) -> None:
    before = await database.write(lambda connection: connection.total_changes)
    commits: list[int] = []
    await database.write(lambda connection: connection.set_trace_callback(
        lambda statement: commits.append(1) if statement == "COMMIT" else None
    ))  # fmt: skip
    commits.clear()
    await asyncio.gather(
        *(
            database.write(lambda connection, n=n: connection.execute(EVENT, (str(n),)))  # type: ignore[misc]
            for n in range(200)
        )
    )
    after = await database.write(lambda connection: connection.total_changes)
    assert after - before == 200
    assert len(commits) < 50


async def test_a_cancelled_writer_still_writes(database: Database, tmp_path: Path) -> None:
    task = asyncio.create_task(database.write(lambda connection: connection.execute(EVENT, ("kept",))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.write(lambda connection: None)
    assert _names(tmp_path / "state.db") == ["kept"]


async def test_what_nobody_waits_for_goes_with_the_next_commit_and_with_the_end(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    await database.open()
    database.write_soon(lambda connection: connection.execute(EVENT, ("soon",)))
    await database.write(lambda connection: connection.execute(EVENT, ("now",)))
    assert _names(tmp_path / "state.db") == ["soon", "now"]
    for number in range(BATCH_LIMIT + 5):
        database.write_soon(lambda connection, n=number: connection.execute(EVENT, (str(n),)))  # type: ignore[misc]
    await database.close()
    assert len(_names(tmp_path / "state.db")) == BATCH_LIMIT + 7


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await database.read(lambda connection: connection.execute(EVENT, ("no",)))


async def test_a_newer_state_is_refused(tmp_path: Path) -> None:
    """F31."""
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    database = Database(tmp_path / "state.db")
    with pytest.raises(Unavailable) as caught:
        await database.open()
    assert caught.value.code == "state-too-new"
    known = len(MIGRATIONS)
    assert caught.value.message == (
        f"{tmp_path / 'state.db'} has version {known + 1}; this agent knows up to {known}"
    )
    await database.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is not SQLite, whatever it may be" * 100)
    database = Database(tmp_path / "state.db")
    with pytest.raises(Unavailable) as caught:
        await database.open()
    assert caught.value.code == "store-unavailable"
    assert caught.value.message == "the state cannot be read or written: file is not a database"
    await database.close()


async def test_a_migration_keeps_a_copy_of_the_older_state(tmp_path: Path) -> None:
    first = Database(tmp_path / "state.db")
    await first.open()
    await first.write(lambda connection: connection.execute(EVENT, ("old",)))
    await first.close()
    second = Database(tmp_path / "state.db", (*MIGRATIONS, ("CREATE TABLE later(x)",)))
    await second.open()
    assert await second.read(lambda c: c.execute("SELECT count(*) FROM later").fetchone()[0]) == 0
    await second.close()
    assert _names(tmp_path / f"state.db.version-{len(MIGRATIONS)}") == ["old"]


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    first = Database(tmp_path / "state.db")
    await first.open()
    await first.close()
    broken = Database(tmp_path / "state.db", (*MIGRATIONS, ("CREATE TABLE later(x)", "NONSENSE")))
    with pytest.raises(Unavailable):
        await broken.open()
    await broken.close()
    again = Database(tmp_path / "state.db")
    await again.open()
    await again.close()


async def test_a_disk_that_refuses_fails_everybody_and_the_next_write_works(
    database: Database, tmp_path: Path
) -> None:
    """F23: the file may not grow any more; then it may again."""
    pages = await database.write(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    def fill(connection: sqlite3.Connection) -> None:
        for _ in range(2000):
            connection.execute(EVENT, ("x" * 1000,))

    results = await asyncio.gather(
        database.write(fill),
        database.write(lambda connection: connection.execute(EVENT, ("small",))),
        return_exceptions=True,
    )
    assert all(isinstance(result, Unavailable) for result in results), results
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    await database.write(lambda connection: connection.execute(EVENT, ("again",)))
    assert _names(tmp_path / "state.db") == ["again"]


async def test_trouble_with_the_file_is_known_until_a_write_succeeds(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F23, F26, F30: /health asks for it; it is told once when it begins and once when it is over."""

    async def write() -> None:
        await database.write(lambda connection: connection.execute(EVENT, ("one",)))

    await database.write(lambda connection: connection.execute("PRAGMA busy_timeout = 1"))
    assert database.trouble == ""
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(Unavailable):
                await write()
        assert database.trouble == "database is locked"
    await write()
    assert database.trouble == ""
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["the state cannot be written: database is locked", "the state is written again"]


class Piecemeal:
    """A reserve of some pieces; each lets the file grow by so many pages."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.connection: sqlite3.Connection | None = None
        self.short = False
        self.why = "nothing is free"

    def spend(self) -> bool:
        self.short = True
        if not self.pieces:
            return False
        self.pieces -= 1
        assert self.connection is not None
        pages = self.connection.execute("PRAGMA page_count").fetchone()[0]
        self.connection.execute(f"PRAGMA max_page_count = {pages + 50}")
        return True

    def restore(self) -> bool:
        self.short = False
        return True

    def ensure(self) -> None:
        """Nobody starts anything here."""


async def _full(tmp_path: Path, reserve: Piecemeal) -> Database:
    """Opened, on a disk that has just become full."""
    database = Database(tmp_path / "state.db", reserve=reserve)
    await database.open()

    def fill(connection: sqlite3.Connection) -> None:
        reserve.connection = connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await database.write(fill)
    return database


def _much(connection: sqlite3.Connection, name: str = "much", pages: int = 40) -> None:
    for _ in range(pages):
        connection.execute("INSERT INTO events(at, name, data) VALUES(1, ?, ?)", (name, "x" * 4000))


async def test_on_a_full_disk_the_reserve_is_spent_for_what_was_begun_and_for_nothing_new(
    tmp_path: Path,
) -> None:
    """F23: in one batch the journal's write goes through, the delivery's does not; nothing is done twice."""
    reserve = Piecemeal(2)
    database = await _full(tmp_path, reserve)
    results = await asyncio.gather(
        database.write(lambda connection: _much(connection, "begun")),
        database.promise(lambda connection: _much(connection, "promised")),
        return_exceptions=True,
    )
    assert results[0] is None
    assert isinstance(results[1], Unavailable)
    assert (results[1].code, results[1].message) == ("space-low", "nothing is free")
    assert (database.trouble, database.short, reserve.pieces) == ("", True, 1)
    with pytest.raises(Unavailable, match="nothing is free"):
        await database.promise(lambda connection: connection.execute(EVENT, ("small",)))
    database.write_soon(lambda connection: connection.execute(EVENT, ("soon",)))
    await database.write(lambda connection: connection.execute(EVENT, ("small",)))
    reserve.restore()
    await database.promise(lambda connection: connection.execute(EVENT, ("again",)))
    await database.close()
    assert _names(tmp_path / "state.db") == ["begun"] * 40 + ["small", "again"]


async def test_a_reserve_that_is_used_up_is_the_end_of_it(tmp_path: Path) -> None:
    """F23: then it is 503 for everybody, until there is space."""
    reserve = Piecemeal(1)
    database = await _full(tmp_path, reserve)
    with pytest.raises(Unavailable) as caught:
        await database.write(lambda connection: _much(connection, pages=200))
    assert caught.value.code == "store-unavailable"
    assert "full" in database.trouble
    assert reserve.pieces == 0
    await database.write(lambda connection: connection.execute(EVENT, ("small",)))
    assert database.trouble == ""
    await database.close()
    assert _names(tmp_path / "state.db") == ["small"]


@pytest.mark.parametrize("gone", ["state.db", "state.db-wal"])
async def test_a_file_that_was_removed_is_told_with_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """F32: what is written into a file without a name is lost, so it was not written."""
    monkeypatch.setattr(module, "REOPEN_SECONDS", 0.0)
    database = Database(tmp_path / "state.db")
    await database.open()
    await database.write(lambda connection: connection.execute(EVENT, ("one",)))
    (tmp_path / gone).rename(tmp_path / "aside")
    with pytest.raises(Unavailable, match="was removed while the agent was running"):
        await database.write(lambda connection: connection.execute(EVENT, ("two",)))
    assert "was removed" in database.trouble
    (tmp_path / "aside").rename(tmp_path / gone)
    await database.write(lambda connection: connection.execute(EVENT, ("three",)))
    assert database.trouble == ""
    await database.close()


async def test_another_file_in_its_place_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F32: somebody copied a backup over it; the next start reads it, this agent does not."""
    monkeypatch.setattr(module, "REOPEN_SECONDS", 0.0)
    database = Database(tmp_path / "state.db")
    await database.open()
    await database.write(lambda connection: connection.execute(EVENT, ("one",)))
    (tmp_path / "copy").write_bytes((tmp_path / "state.db").read_bytes())
    (tmp_path / "copy").replace(tmp_path / "state.db")
    for _ in range(2):
        with pytest.raises(Unavailable, match="replaced while the agent was running"):
            await database.write(lambda connection: connection.execute(EVENT, ("two",)))
    await database.close()


async def test_what_is_opened_begins_with_an_empty_log(tmp_path: Path) -> None:
    """F27: after a sync that failed, parts of the log may be in memory only; all of it is written to the file."""
    place, after = tmp_path / "before", tmp_path / "after"
    place.mkdir()
    database = Database(place / "state.db")
    await database.open()
    await database.write(_much)
    shutil.copytree(place, after)
    await database.close()
    assert (after / "state.db-wal").stat().st_size > 0
    again = Database(after / "state.db")
    await again.open()
    assert (after / "state.db-wal").stat().st_size == 0
    assert await again.read(lambda c: c.execute("SELECT count(*) FROM events").fetchone()[0]) == 40
    await again.close()


async def test_records_that_nobody_waits_for_are_told_of_in_one_line(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F26: a flood of ignored deliveries is none of warnings."""
    await database.write(lambda connection: connection.execute("PRAGMA busy_timeout = 1"))
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        for number in range(50):
            database.write_soon(lambda connection, n=number: connection.execute(EVENT, (str(n),)))  # type: ignore[misc]
        with pytest.raises(Unavailable):
            await database.write(lambda connection: connection.execute(EVENT, ("one",)))
    told = [record.message for record in caplog.records if "nobody waits for" in record.message]
    assert len(told) == 1
    assert "were not written (50)" in told[0]
