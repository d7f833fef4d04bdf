"""One value out of somebody else's database: real ones, in every state in which a service or a crash leaves them."""

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.system import sqlite

QUERY = "SELECT max(x) FROM t"
ENDLESS = "WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"

WRITER = """
import sqlite3, sys, time
path, script = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
for line in script.split(";"):
    connection.execute(line)
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def a_service(path: Path, script: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has done this to the database, and still has it open; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", WRITER, path, script], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(params=["wal", "delete", "truncate", "persist", "memory"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, mode: str) -> Path:
    """A database that was closed in order, with a 1 in it. The directory has a name that a URI must escape."""
    place = tmp_path / "my data?mode=rwc#%41" / "app.db"
    place.parent.mkdir()
    with closing(sqlite3.connect(place, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
    return place


def lying_around(path: Path) -> dict[str, str]:
    """Every file of the directory and what is in it, but not the shared memory, in which readers note themselves."""
    return {
        file.name: "" if file.name.endswith("-shm") else hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.parent.iterdir()
    }


def ask(path: Path, query: str = QUERY, seconds: float = 5) -> object:
    """Asks, and checks that nothing was made, changed or removed."""
    before = lying_around(path)
    try:
        return sqlite.value(path, query, seconds=seconds)
    finally:
        assert lying_around(path) == before


def test_a_database_that_nobody_has_open_is_read_and_no_file_is_made(path: Path) -> None:
    assert ask(path) == 1
    assert [file.name for file in path.parent.iterdir() if file.name != "app.db"] in ([], ["app.db-journal"])


def test_a_database_that_a_service_has_open_gives_what_it_wrote_last(path: Path, mode: str) -> None:
    with a_service(
        path, f"PRAGMA journal_mode={mode}; PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (7)"
    ):
        assert ask(path) == 7


def test_a_database_whose_service_was_killed_gives_what_it_wrote_last(path: Path, mode: str) -> None:
    """The files of a WAL stay behind, and nobody has them open."""
    with a_service(
        path, f"PRAGMA journal_mode={mode}; PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (7)"
    ):
        pass
    assert ask(path) == 7


def test_a_transaction_under_way_is_not_seen(path: Path, mode: str) -> None:
    with a_service(path, f"PRAGMA journal_mode={mode}; BEGIN IMMEDIATE; INSERT INTO t VALUES (9)"):
        assert ask(path) == 1


def test_the_service_can_write_and_checkpoint_while_it_is_asked(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as service:
        for n in range(2, 12):
            service.execute("INSERT INTO t VALUES (?)", [n])
            service.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert sqlite.value(path, QUERY, seconds=5) == n


RESTLESS = """
import sqlite3, sys
n = 1
while True:
    n += 1
    service = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
    service.execute("INSERT INTO t VALUES (?)", [n])
    service.close()
"""


def test_many_answers_while_a_service_opens_writes_and_closes(path: Path) -> None:
    """The way in may become the wrong one at any instant; an answer is then late, never torn."""
    answers: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", RESTLESS, path], stderr=subprocess.PIPE
    ) as service:
        try:
            while len(answers) < 60 or answers[-1] < 20:
                found = sqlite.value(path, QUERY, seconds=10)
                assert isinstance(found, int)
                answers.append(found)
            assert service.poll() is None, "the service was not disturbed"
        finally:
            service.kill()
    assert answers == sorted(answers)


OPENING = """
import fcntl, sys
open(sys.argv[1] + "-wal", "ab").close()
index = open(sys.argv[1] + "-shm", "wb+")
index.truncate(32768)
fcntl.lockf(index, fcntl.LOCK_SH, 1, 128)
print("here", flush=True)
sys.stdin.read()
"""
"""A service that is halfway through opening a WAL database: its index is there and held, and empty
(sqlite.org/walformat.html, the DMS lock)."""


def test_a_service_that_takes_long_to_open_its_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as service:
        service.executescript("PRAGMA journal_mode=wal; CREATE TABLE t (x); INSERT INTO t VALUES (5)")
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", OPENING, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as opening:
        assert opening.stdin
        assert opening.stdout
        opening.stdout.readline()
        with pytest.raises(sqlite.Unanswered, match=r"the database stayed locked for 0\.3 s"):
            ask(path, seconds=0.3)
        threading.Timer(0.3, opening.stdin.close).start()
        assert sqlite.value(path, QUERY, seconds=10) == 5


# --- what cannot be answered


def test_a_database_that_is_locked_is_waited_for_and_then_told(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    script = "CREATE TABLE t (x); INSERT INTO t VALUES (1); BEGIN EXCLUSIVE"
    with a_service(path, script):
        began = time.monotonic()
        with pytest.raises(sqlite.Unanswered, match=r"the database stayed locked for 0\.3 s"):
            ask(path, seconds=0.3)
        assert 0.25 < time.monotonic() - began < 20
    assert ask(path) == 1


def test_a_lock_that_ends_in_time_costs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as service:
        service.execute("CREATE TABLE t (x)")
        service.execute("BEGIN EXCLUSIVE")
        service.execute("INSERT INTO t VALUES (5)")
        threading.Timer(0.3, lambda: service.execute("COMMIT")).start()
        assert sqlite.value(path, QUERY, seconds=10) == 5


def test_a_write_that_a_crash_cut_in_two_is_told_and_not_repaired(tmp_path: Path) -> None:
    """A repair writes: that is for the service itself to do, when it opens its database next."""
    path = tmp_path / "app.db"
    many = "; ".join(["INSERT INTO t VALUES (zeroblob(5000))"] * 30)
    with a_service(
        path, f"CREATE TABLE t (x); INSERT INTO t VALUES (1); PRAGMA cache_size=1; BEGIN IMMEDIATE; {many}"
    ):
        pass
    assert (tmp_path / "app.db-journal").exists()
    with pytest.raises(sqlite.Unanswered, match="a crash left it in the middle of a write"):
        ask(path, "SELECT count(*) FROM t")
    with closing(sqlite3.connect(path)) as service:
        assert service.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert ask(path, "SELECT count(*) FROM t") == 1


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with pytest.raises(sqlite.Unanswered, match="there is no such file"):
        sqlite.value(path, QUERY, seconds=1)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"")
    with pytest.raises(sqlite.Unanswered, match="no such table"):
        ask(path)
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(sqlite.Unanswered, match="not a database"):
        ask(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(sqlite.Unanswered, match="there is no such file"):
        sqlite.value(tmp_path / "pipe", QUERY, seconds=1)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(sqlite.Unanswered, match="there is no such file"):
        sqlite.value(tmp_path / "loop", QUERY, seconds=1)


def test_a_link_leads_to_the_files_beside_the_database_itself(path: Path, tmp_path: Path, mode: str) -> None:
    link = tmp_path / "current.db"
    link.symlink_to(path)
    assert sqlite.value(link, QUERY, seconds=5) == 1
    with a_service(
        path, f"PRAGMA journal_mode={mode}; PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (7)"
    ):
        assert sqlite.value(link, QUERY, seconds=5) == 7
    assert {entry.name for entry in tmp_path.iterdir()} == {"current.db", path.parent.name}


# --- what may be asked


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT NULL", None),
        ("SELECT x FROM t WHERE x > 5", None),
        ("SELECT 1.5", 1.5),
        ("SELECT 'text';", "text"),
        ("select strftime('%Y', '2026-11-22')", "2026"),
        ("WITH n AS (SELECT max(x) AS y FROM t) SELECT y FROM n", 1),
        ("VALUES (3)", 3),
    ],
)
def test_a_query_may_be_any_that_reads(path: Path, query: str, found: object) -> None:
    assert ask(path, query) == found


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO t VALUES (2)", "DELETE FROM t", "DROP TABLE t", "CREATE TABLE u (x)", "VACUUM", "BEGIN",
        "ATTACH '{other}' AS o", "PRAGMA journal_mode=delete", "PRAGMA user_version=3", "VACUUM INTO '{other}'",
        "WITH n AS (SELECT 1) INSERT INTO t SELECT * FROM n", "SELECT 1; DELETE FROM t", "SELECT load_extension('x')",
        "SELECT 1, 2", "", "SELECT", "SELECT * FROM pragma_wal_checkpoint", "SELECT zeroblob(1000000)", "nonsense",
    ],
)  # fmt: skip
def test_a_query_may_not_do_anything_else(path: Path, tmp_path: Path, query: str) -> None:
    other = tmp_path / "other.db"
    with pytest.raises(sqlite.Unanswered) as refused:
        ask(path, query.format(other=other))
    assert str(refused.value)
    assert not other.exists()
    assert ask(path) == 1


def test_a_query_without_end_is_ended(path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(sqlite.Unanswered, match=r"the query took longer than 0\.2 s"):
        ask(path, ENDLESS, seconds=0.2)
    assert time.monotonic() - began < 20


def test_told_to_stop_it_stops(path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(sqlite.Unanswered):
        sqlite.value(path, ENDLESS, seconds=60, stopped=lambda: time.monotonic() - began > 0.1)
    assert time.monotonic() - began < 20


def test_a_copy_that_is_under_way_keeps_its_lock(tmp_path: Path) -> None:
    """POSIX locks belong to the process: had the file been opened and closed here, a writer would get in between."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("CREATE TABLE t (x)")
        own.execute("INSERT INTO t VALUES (1)")
        own.execute("BEGIN")
        own.execute("SELECT * FROM t").fetchall()  # as the backup: this process holds a shared lock
        assert sqlite.value(path, QUERY, seconds=5) == 1
        script = "import sqlite3, sys\nsqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN EXCLUSIVE')"
        done = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
        )
        assert "database is locked" in done.stderr
