"""The `freshness` probe: real databases that a service writes meanwhile, and commands."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.probes.freshness import FreshnessProbe
from agent.core import settings
from agent.core.model import Probed
from agent.system import sqlite as system_sqlite
from tests.contracts.probes import SECRET, a_launch, around, until
from tests.fakes import START, FakeClock

QUERY = "SELECT max(at) FROM pages"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The service's own, open for writing, with an empty table."""
    (tmp_path / "shared").mkdir()
    with closing(sqlite3.connect(tmp_path / "shared" / "app.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE pages (at)")
        yield connection


def write(database: sqlite3.Connection, *, ago: float) -> None:
    database.execute("INSERT INTO pages VALUES (?)", [(START - timedelta(seconds=ago)).isoformat()])


def a_probe(directory: Path, *, clock: FakeClock | None = None, **options: Any) -> FreshnessProbe:
    given: dict[str, Any] = {"max_age": settings.Seconds(900)}
    if "command" not in options:
        given |= {"sqlite": "shared/app.db", "query": QUERY}
    if "timeout" in options:
        options["timeout"] = settings.Seconds(options["timeout"])
    return FreshnessProbe(settings.FreshnessProbe(**(given | options)), around(directory, clock=clock))


async def ask(directory: Path, **options: Any) -> Probed:
    return await a_probe(directory, **options).ask(a_launch(directory))


async def test_what_was_written_a_moment_ago_is_fresh_and_ages(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    write(database, ago=60)
    clock = FakeClock()
    probe = a_probe(tmp_path, clock=clock)
    probed = await probe.ask(a_launch(tmp_path))
    assert (probed.healthy, probed.detail) == (True, "shared/app.db: 60 s ago")
    clock.advance(841)
    probed = await probe.ask(a_launch(tmp_path))
    assert (probed.healthy, probed.detail) == (False, "shared/app.db: 15 min ago, more than 15m")
    write(database, ago=-841)
    assert (await probe.ask(a_launch(tmp_path))).healthy, "also while the database stays open"


@pytest.mark.usefixtures("database")
async def test_an_empty_table_is_not_fresh(tmp_path: Path) -> None:
    probed = await ask(tmp_path)
    assert (probed.healthy, probed.detail) == (False, "shared/app.db: there is no time yet")


async def test_a_time_in_the_future_is_told_because_it_proves_nothing(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    """F53: a clock that jumps, or local time written as UTC, which would look fresh for hours after the last one."""
    write(database, ago=-7200)
    probed = await ask(tmp_path)
    assert not probed.healthy
    assert "2 h in the future: compare the clocks" in probed.detail


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sqlite": "shared/none.db"}, "there is no such file"),
        ({"sqlite": "shared"}, "there is no such file"),
        ({"query": "SELECT max(at) FROM others"}, "no such table: others"),
        ({"query": "SELECT 'soon'"}, "'soon' is not a time"),
        ({"query": "SELECT 1, 2"}, "must give one value"),
    ],
)
@pytest.mark.usefixtures("database")
async def test_what_gives_no_time_is_a_failure_with_a_sentence(
    tmp_path: Path, options: dict[str, str], words: str
) -> None:
    probed = await ask(tmp_path, **options)
    assert not probed.healthy
    assert words in probed.detail


async def test_a_locked_database_is_told_and_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with closing(sqlite3.connect(tmp_path / "shared" / "app.db", isolation_level=None)) as writer:
        writer.execute("CREATE TABLE pages (at)")
        writer.execute("BEGIN EXCLUSIVE")
        asking = asyncio.create_task(ask(tmp_path, timeout=0.5))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0.01)
            turns += 1
        probed = await asking
    assert turns > 3, "else it would have had one, when all was over"
    assert (probed.healthy, probed.detail) == (False, "shared/app.db: the database stayed locked for 0.5 s")


class Hanging:
    """A disk that does not answer until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.begun = 0

    def __call__(self, *arguments: object, **options: object) -> object:
        self.begun += 1
        self.free.wait(30)
        return START.timestamp()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    disk = Hanging()
    monkeypatch.setattr(system_sqlite, "value", disk)
    yield disk
    disk.free.set()


async def test_a_disk_that_hangs_costs_one_thread_and_no_more(tmp_path: Path, hanging: Hanging) -> None:
    probe, launch = a_probe(tmp_path, timeout=0.1), a_launch(tmp_path)
    others = set(threading.enumerate())
    told = [await probe.ask(launch), await probe.ask(launch), await probe.ask(launch)]
    assert [probed.healthy for probed in told] == [False] * 3
    assert "no answer within 0.1 s" in told[0].detail
    assert "has not come back yet" in told[1].detail
    assert hanging.begun == 1
    assert len(set(threading.enumerate()) - others) == 1
    hanging.free.set()
    assert (await probe.ask(launch)).healthy, "and once it answers, all is as before"


@pytest.mark.usefixtures("database")
async def test_a_query_that_was_cancelled_stops(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    others = set(threading.enumerate())
    asking = asyncio.create_task(ask(tmp_path, query=endless, timeout=60))
    await asyncio.sleep(0.1)
    assert set(threading.enumerate()) > others
    asking.cancel()
    await asyncio.wait({asking})
    await until("the thread to end", lambda: set(threading.enumerate()) <= others)


# --- a command


@pytest.mark.parametrize(
    ("command", "healthy", "words"),
    [
        (f"echo {START.timestamp() - 60:.0f}", True, "60 s ago"),
        (f"echo warning: slow >&2; echo {START.timestamp():.0f}; echo", True, "0 s ago"),
        ("true", False, "there is no time yet"),
        ("echo never", False, "'never' is not a time"),
        (f"echo {START.timestamp():.0f}; exit 1", False, "exit status 1: "),
        ("sleep 600", False, "not done within 1 s"),
    ],
)
async def test_the_last_line_that_a_command_prints_counts(
    tmp_path: Path, command: str, healthy: bool, words: str
) -> None:
    probed = await ask(tmp_path, command=command, timeout=1 if command.startswith("sleep") else 60)
    assert probed.healthy == healthy, probed.detail
    assert words in probed.detail


async def test_a_command_runs_in_the_release(tmp_path: Path) -> None:
    release = tmp_path / "releases" / "3-abcdef0"
    release.mkdir(parents=True)
    os.utime(release, (START.timestamp(), START.timestamp()))
    probed = await a_probe(tmp_path, command="stat -c %Y .").ask(a_launch(release))
    assert probed.healthy, probed.detail
    gone = await a_probe(tmp_path, command="true").ask(a_launch(tmp_path / "gone"))
    assert "cannot be started: No such file" in gone.detail


async def test_no_secret_is_shown(tmp_path: Path) -> None:
    probed = await ask(tmp_path, command=f"echo {SECRET}")
    assert not probed.healthy
    assert SECRET not in probed.detail
