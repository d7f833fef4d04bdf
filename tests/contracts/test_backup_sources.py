"""What every BackupSource promises; and what files and databases do while they are read."""

import hashlib
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.backup import content, names, sources_of
from agent.adapters.backup.files import Tree
from agent.adapters.backup.sqlite import SqliteDatabase, piece_size
from agent.adapters.backup.stopping import never
from agent.core.errors import StepFailed
from agent.core.model import BackupFile
from agent.core.ports import BackupSource
from agent.system import sqlite
from tests.build import a_service


class Memory:
    """A sink in memory. `on_put` is called before each piece, to disturb what is being read."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.scratch.mkdir(exist_ok=True)
        self.pieces: dict[str, bytes] = {}
        self.files: list[BackupFile] = []
        self.on_put: Callable[[int], None] = lambda count: None
        self.count = 0

    def stopped(self) -> bool:
        return False

    def put(self, data: bytes) -> str:
        assert 0 < len(data) <= 4 * 1024 * 1024
        self.on_put(self.count)
        self.count += 1
        address = hashlib.sha256(data).hexdigest()
        self.pieces[address] = bytes(data)
        return address

    def record(self, file: BackupFile) -> None:
        self.files.append(file)

    def named(self) -> dict[str, BackupFile]:
        return {names.decode(file.path): file for file in self.files}

    def read(self, name: str) -> bytes:
        file = self.named()[name]
        chunks = file.chunks or ((file.sha256,) if file.size else ())
        if file.listed:
            joined = b"".join(self.pieces[chunk] for chunk in chunks)
            chunks = tuple(joined[at : at + 32].hex() for at in range(0, len(joined), 32))
        data = b"".join(self.pieces[chunk] for chunk in chunks)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
        return data


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A service's directory."""
    (tmp_path / "home" / "data").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def sink(tmp_path: Path) -> Memory:
    """Where the pieces go."""
    return Memory(tmp_path / "scratch")


NOTHING: frozenset[str] = frozenset()


def database(path: Path, rows: int = 100, journal: str = "wal") -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
        connection.executemany("INSERT INTO t(body) VALUES(?)", ((f"row {n}" * 20,) for n in range(rows)))


def rows_in(data: bytes, scratch: Path) -> int:
    path = scratch / "restored.db"
    path.write_bytes(data)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


# ---------------------------------------------------------------------- the contract


@pytest.fixture(params=["sqlite", "files"])
def source(request: pytest.FixtureRequest, home: Path) -> tuple[BackupSource, Path, str]:
    """Every source: it, what it saves, and its name."""
    database(home / "data" / "app.db", journal="delete")
    if request.param == "sqlite":
        return SqliteDatabase(home, "data/app.db"), home / "data" / "app.db", "data/app.db"
    return Tree(home, "data"), home / "data", "data"


def remove(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def test_a_source_hands_over_what_it_describes(source: tuple[BackupSource, Path, str], sink: Memory) -> None:
    it, _, name = source
    member = it.collect(sink, NOTHING)
    assert (member.source, member.state, member.files) == (name, "ok", 1)
    assert member.bytes == sum(file.size for file in sink.files)
    assert it.estimate(never).bytes == member.bytes
    assert rows_in(sink.read("data/app.db"), sink.scratch) == 100


def test_a_source_that_never_was_is_absent(source: tuple[BackupSource, Path, str], sink: Memory) -> None:
    it, path, _ = source
    remove(path)
    assert it.collect(sink, NOTHING).state == "absent"
    assert it.estimate(never).bytes == 0
    assert not sink.files


def test_a_source_that_was_and_is_gone_is_a_failure(
    source: tuple[BackupSource, Path, str], sink: Memory
) -> None:
    """F83."""
    it, path, name = source
    remove(path)
    with pytest.raises(StepFailed) as caught:
        it.collect(sink, frozenset({name}))
    assert caught.value.code == "backup-source-gone"


def test_a_link_that_leads_nowhere_is_gone_too(source: tuple[BackupSource, Path, str], sink: Memory) -> None:
    it, path, name = source
    remove(path)
    path.symlink_to("nowhere")
    with pytest.raises(StepFailed) as caught:
        it.collect(sink, frozenset({name}))
    assert caught.value.code == "backup-source-gone"


def test_what_may_not_be_looked_at_is_not_called_absent(
    source: tuple[BackupSource, Path, str], sink: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F83. Root may look at everything, so the refusal is planted; without it the file would be lost silently."""
    it, _, _ = source

    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(StepFailed) as caught:
        it.collect(sink, NOTHING)
    assert caught.value.code == "backup-source-unreadable"


# ---------------------------------------------------------------------- databases


WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=10)
while True:
    with connection:  # about 1000 rows a second, two tables always together
        connection.executemany("INSERT INTO t(body) VALUES(?)", [("x" * 200,)] * 10)
        connection.execute("INSERT INTO twin(n) VALUES(10)")
    print(flush=True)
    time.sleep(0.01)
"""


@contextmanager
def a_writer(path: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        try:
            yield
            assert process.poll() is None, "it wrote all the while"
        finally:
            process.kill()


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_that_is_being_written_is_saved_as_it_was_at_one_instant(
    home: Path, sink: Memory, journal: str
) -> None:
    """R-BK-2, F84, M5: another process writes two tables together, 1000 rows a second."""
    path = home / "data" / "app.db"
    database(path, rows=20_000, journal=journal)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE twin(n INTEGER)")
    with a_writer(path):
        for _ in range(3):
            SqliteDatabase(home, "data/app.db").collect(sink, NOTHING)
            (sink.scratch / "restored.db").unlink(missing_ok=True)
            rows = rows_in(sink.read("data/app.db"), sink.scratch)
            with closing(sqlite3.connect(sink.scratch / "restored.db")) as connection:
                twin = connection.execute("SELECT sum(n) FROM twin").fetchone()[0]
            assert rows == 20_000 + twin
            assert sink.files[-1].tables == {"t": rows, "twin": twin // 10}
            sink.files.clear()
    assert not list(sink.scratch.glob("copy-*"))


def test_what_stands_only_in_the_write_ahead_log_is_saved(home: Path, sink: Memory) -> None:
    """M5: a plain copy of this file has no table at all."""
    path = home / "data" / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES(1)")
        Tree(home, "data").collect(sink, NOTHING)
        assert rows_in(sink.read("data/app.db"), sink.scratch) == 1
        assert set(sink.named()) == {"data", "data/app.db"}


def test_a_database_that_a_crash_left_with_a_hot_journal_is_saved_as_it_will_be_repaired(
    home: Path, sink: Memory
) -> None:
    path = home / "data" / "app.db"
    database(path, rows=2000, journal="delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=2")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET body = 'half done'")
        crashed = path.with_name("crashed.db")
        crashed.write_bytes(path.read_bytes())
        path.with_name("crashed.db-journal").write_bytes(path.with_name("app.db-journal").read_bytes())
        connection.execute("ROLLBACK")
    SqliteDatabase(home, "data/crashed.db").collect(sink, NOTHING)
    assert rows_in(sink.read("data/crashed.db"), sink.scratch) == 2000
    assert b"half done" not in sink.read("data/crashed.db")


def test_a_damaged_database_is_not_saved_as_if_it_were_whole(home: Path, sink: Memory) -> None:
    path = home / "data" / "app.db"
    database(path, rows=2000, journal="delete")
    data = bytearray(path.read_bytes())
    data[4096:8192] = os.urandom(4096)
    path.write_bytes(data)
    for it in (SqliteDatabase(home, "data/app.db"), Tree(home, "data")):
        with pytest.raises(StepFailed) as caught:
            it.collect(sink, NOTHING)
        assert caught.value.code == "backup-source-damaged"
    assert not list(sink.scratch.iterdir())


def test_a_file_that_is_no_database_is_said_to_be_none(home: Path, sink: Memory) -> None:
    (home / "data" / "app.db").write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    with pytest.raises(StepFailed) as caught:
        SqliteDatabase(home, "data/app.db").collect(sink, NOTHING)
    assert caught.value.code == "backup-source-damaged"


def test_a_database_into_which_nothing_was_written_is_saved(home: Path, sink: Memory) -> None:
    (home / "data" / "app.db").touch()
    assert SqliteDatabase(home, "data/app.db").collect(sink, NOTHING).state == "ok"
    assert sink.files[0].tables == {}


def test_a_database_that_stays_locked_fails_within_its_patience(
    home: Path, sink: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite.copying, "BUSY_SECONDS", 0.2)
    path = home / "data" / "app.db"
    database(path, journal="delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StepFailed) as caught:
            SqliteDatabase(home, "data/app.db").collect(sink, NOTHING)
    assert caught.value.code == "backup-failed"


def test_a_lock_that_is_let_go_is_waited_for(home: Path, sink: Memory) -> None:
    """R-BK-2: busy retry."""
    path = home / "data" / "app.db"
    database(path, journal="delete")
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.3, holder.execute, ("ROLLBACK",))
    timer.start()
    assert SqliteDatabase(home, "data/app.db").collect(sink, NOTHING).state == "ok"
    timer.join()
    holder.close()


def test_tables_whose_module_is_the_applications_own_do_not_stop_the_backup(home: Path, sink: Memory) -> None:
    path = home / "data" / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT COLLATE mine)")
        connection.execute("CREATE INDEX i ON t(body)")
        connection.execute("INSERT INTO t(body) VALUES('a')")
    assert SqliteDatabase(home, "data/app.db").collect(sink, NOTHING).state == "ok"
    assert sink.files[0].tables == {"t": 1}


@given(size=st.integers(0, 1 << 44), page=st.sampled_from([512, 1024, 4096, 16384, 65536]))
def test_pieces_are_whole_pages_and_few_enough(size: int, page: int) -> None:
    piece = piece_size(size, page)
    assert piece % page == 0
    assert 4096 <= piece <= 1024 * 1024
    assert size <= piece * 65536 or piece >= 1024 * 1024


# ---------------------------------------------------------------------- files


def test_links_modes_times_and_empty_directories_are_kept(home: Path, sink: Memory) -> None:
    data = home / "data"
    (data / "empty").mkdir(mode=0o750)
    (data / "run.sh").write_bytes(b"#!/bin/sh\n")
    (data / "run.sh").chmod(0o755)
    os.utime(data / "run.sh", ns=(1, 1_700_000_000_123_456_789))
    (data / "link").symlink_to("../outside")
    (data / "loop").symlink_to("loop")
    (data / b"na\xffme\\x".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    member = Tree(home, "data").collect(sink, NOTHING)
    found = sink.named()
    assert (found["data/empty"].kind, found["data/empty"].mode) == ("directory", 0o750)
    assert (found["data/run.sh"].mode, found["data/run.sh"].mtime) == (0o755, 1_700_000_000_123_456_789)
    assert (found["data/link"].kind, found["data/link"].target) == ("symlink", "../outside")
    assert found["data/na\udcffme\\x"].path == "data/na\\xffme\\\\x"
    assert (member.files, member.bytes) == (4, 11)


def test_sockets_and_fifos_are_counted_and_not_read(home: Path, sink: Memory) -> None:
    os.mkfifo(home / "data" / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "data" / "socket"))
        member = Tree(home, "data").collect(sink, NOTHING)
    assert (member.state, member.skipped, member.files) == ("ok", 2, 0)


def test_what_another_source_covers_is_skipped(home: Path, sink: Memory) -> None:
    database(home / "data" / "app.db")
    for name in ("app.db-wal", "app.db-shm", "app.db-journal", "other", "sub/deep"):
        (home / "data" / name).parent.mkdir(exist_ok=True)
        (home / "data" / name).write_bytes(b"x")
    (home / "data" / "alias").symlink_to("app.db")
    Tree(home, "data", [home / "data/app.db", home / "data/sub"]).collect(sink, NOTHING)
    assert set(sink.named()) == {"data", "data/other", "data/alias"}


def test_a_covered_database_is_recognized_behind_a_linked_directory(home: Path, sink: Memory) -> None:
    database(home / "data" / "app.db")
    (home / "shared").symlink_to("data")
    Tree(home, "data", [home / "shared/app.db"]).collect(sink, NOTHING)
    assert set(sink.named()) == {"data"}


def test_a_source_may_be_a_file_or_a_link_to_a_directory(home: Path, tmp_path: Path, sink: Memory) -> None:
    (home / "one").write_bytes(b"1")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "two").write_bytes(b"2")
    (home / "linked").symlink_to(tmp_path / "disk")
    for path in ("one", "linked"):
        Tree(home, path).collect(sink, NOTHING)
    assert list(sink.named()) == ["one", "linked", "linked/two"]


def test_a_file_that_only_grew_is_saved_up_to_its_size_at_opening(home: Path, sink: Memory) -> None:
    """R-BK-5, F83."""
    log = home / "data" / "log"
    log.write_bytes(b"a" * 600_000)

    def grow(count: int) -> None:
        with log.open("ab") as file:
            file.write(b"more")

    sink.on_put = grow
    assert Tree(home, "data").collect(sink, NOTHING).state == "ok"
    assert sink.read("data/log") == b"a" * 600_000


def test_a_file_that_changed_once_is_read_again(home: Path, sink: Memory) -> None:
    """R-BK-5."""
    path = home / "data" / "f"
    path.write_bytes(b"a" * 600_000)

    def change(count: int) -> None:
        if count == 1:
            path.write_bytes(b"b" * 500_000)

    sink.on_put = change
    assert Tree(home, "data").collect(sink, NOTHING).state == "ok"
    assert sink.read("data/f") == b"b" * 500_000


def test_a_file_that_keeps_changing_makes_the_backup_partial(home: Path, sink: Memory) -> None:
    """R-BK-5, F83."""
    path = home / "data" / "f"
    path.write_bytes(b"a" * 600_000)

    def change(count: int) -> None:
        path.write_bytes(bytes([count]) * 600_000)

    sink.on_put = change
    assert Tree(home, "data").collect(sink, NOTHING).state == "partial"
    assert sink.named()["data/f"].changed


def test_a_change_within_one_tick_of_the_clock_is_seen(home: Path, sink: Memory) -> None:
    """The time of a file does not tell two changes within a few milliseconds apart. (A time ahead of the clock is as
    fresh however long this test has to wait for a processor.)"""
    path = home / "data" / "f"
    path.write_bytes(b"a" * 600_000)
    ahead = path.stat().st_mtime_ns + 60 * 10**9

    def change(count: int) -> None:
        path.write_bytes(bytes([count]) * 600_000)
        os.utime(path, ns=(ahead, ahead))

    os.utime(path, ns=(ahead, ahead))
    sink.on_put = change
    assert Tree(home, "data").collect(sink, NOTHING).state == "partial"


def test_a_file_that_vanished_once_is_looked_for_under_its_new_name(home: Path, sink: Memory) -> None:
    """R-BK-5: the directory is listed again, so a rename within it loses nothing."""
    for name in ("a", "z"):
        (home / "data" / name).write_bytes(name.encode())

    def rename(count: int) -> None:
        if count == 0:
            (home / "data" / "z").rename(home / "data" / "b")

    sink.on_put = rename
    assert Tree(home, "data").collect(sink, NOTHING).state == "ok"
    assert sink.read("data/b") == b"z"


def test_files_that_keep_vanishing_make_the_backup_partial(home: Path, sink: Memory) -> None:
    """R-BK-5, F83."""
    for name in ("a", "z0"):
        (home / "data" / name).write_bytes(name.encode())

    def rename(count: int) -> None:
        # each file that is read makes one vanish that is listed, and appear under another name
        (home / "data" / f"z{count}").rename(home / "data" / f"z{count + 1}")
        (home / "data" / f"b{count}").write_bytes(b"x")

    sink.on_put = rename
    assert Tree(home, "data").collect(sink, NOTHING).state == "partial"


def test_what_may_not_be_read_fails_the_backup(
    home: Path, sink: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F83. Root may read everything, so the refusal is planted at the system call."""
    (home / "data" / "secret").write_bytes(b"x")
    really = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "secret":
            raise PermissionError(13, "Permission denied", path)
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StepFailed) as caught:
        Tree(home, "data").collect(sink, NOTHING)
    assert caught.value.code == "backup-source-unreadable"
    assert "data/secret" in caught.value.message


def test_a_directory_that_becomes_a_link_is_not_entered(
    home: Path, tmp_path: Path, sink: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap comes at the worst instant: after the look, before the opening."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "secret").write_bytes(b"x")
    (home / "data" / "sub").mkdir()
    really = os.open

    def swap(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "sub":
            (home / "data" / "sub").rmdir()
            (home / "data" / "sub").symlink_to(tmp_path / "foreign")
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap)
    Tree(home, "data").collect(sink, NOTHING)
    assert sink.named()["data/sub"].kind == "symlink"
    assert "data/sub/secret" not in sink.named()


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_every_name_survives_being_written_down(raw: bytes) -> None:
    name = os.fsdecode(raw)
    text = names.encode(name)
    text.encode("utf-8")
    assert names.decode(text) == name


@given(st.integers(0, 1_000_000), st.sampled_from([4096, 16384, 65536]), st.integers(1, 4))
def test_a_files_pieces_tell_its_size_and_its_hash(size: int, piece: int, together: int) -> None:
    whole = random.Random(size).randbytes(size)
    blocks = [whole[at : at + piece * together] for at in range(0, size, piece * together)]
    stored: dict[str, bytes] = {}

    class Sink(Memory):
        def __init__(self) -> None:
            pass

        def put(self, data: bytes) -> str:
            address = hashlib.sha256(data).hexdigest()
            stored[address] = data
            return address

    found = content.store(Sink(), blocks, piece)
    pieces = -(-size // piece)
    assert (found.size, found.sha256) == (size, hashlib.sha256(whole).hexdigest())
    assert found.listed == (pieces >= content.LIST_PIECES)
    assert found.listed or len(found.chunks) == (pieces if pieces > 1 else 0)


# ---------------------------------------------------------------------- from the settings


def test_by_default_the_shared_paths_are_saved() -> None:
    found = sources_of(a_service(deploy={"shared": ["data", "conf/app.ini"]}))
    assert [source.source for source in found if isinstance(source, Tree)] == [
        "shared/data",
        "shared/conf/app.ini",
    ]


def test_the_configured_sources_know_of_each_other(home: Path, sink: Memory) -> None:
    (home / "data" / "sub").mkdir()
    (home / "data" / "sub" / "f").write_bytes(b"x")
    database(home / "data" / "app.db")
    listed = [
        {"kind": "files", "paths": ["data", "./data", "data/sub"]},
        {"kind": "sqlite", "path": "data/app.db"},
    ]
    for source in sources_of(a_service(directory=str(home), backup={"sources": listed})):
        source.collect(sink, NOTHING)
    assert [file.path for file in sink.files] == ["data/app.db", "data", "data/sub", "data/sub/f"]


def test_a_file_that_only_begins_like_a_database_is_a_file(home: Path, sink: Memory) -> None:
    for number, data in enumerate((sqlite.HEADER, sqlite.HEADER + b"x" * 2000)):
        (home / "data" / f"f{number}").write_bytes(data)
    Tree(home, "data").collect(sink, NOTHING)
    assert {file.kind for file in sink.files} == {"directory", "file"}


# --- a service that leads us elsewhere


@pytest.mark.root
@pytest.mark.parametrize("kind", [Tree, SqliteDatabase])
def test_a_source_that_the_service_has_made_a_link_is_refused(
    home: Path, sink: Memory, kind: Callable[[Path, str], BackupSource]
) -> None:
    """What it may not read would come back to it by a restore."""
    (home / "secret").write_bytes(b"only the agent reads this")
    (home / "mine").symlink_to("secret")
    os.lchown(home / "mine", 65534, 65534)
    with pytest.raises(StepFailed) as caught:
        kind(home, "mine").collect(sink, NOTHING)
    assert caught.value.code == "backup-source-unreadable"
    assert caught.value.message == f"{home}/mine is a link that another user has made"
    assert sink.files == []


@pytest.mark.parametrize("what", ["tree", "file"])
def test_a_link_that_is_put_in_the_way_after_the_look_is_not_followed(
    home: Path, sink: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (home / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere" / "b").mkdir(parents=True)
    for place in (home / "a", tmp_path / "elsewhere"):
        (place / "b" / "f").write_text(str(place))
    walked = os.path.realpath

    def then_swapped(path: Path) -> str:
        real = walked(path)
        if "/a/b" in real and not (home / "a").is_symlink():
            (home / "a").rename(home / "before")
            (home / "a").symlink_to(tmp_path / "elsewhere")
        return real

    monkeypatch.setattr(os.path, "realpath", then_swapped)
    with pytest.raises(StepFailed) as caught:
        Tree(home, "a/b" if what == "tree" else "a/b/f").collect(sink, NOTHING)
    assert caught.value.code == "backup-source-gone"
    assert sink.files == []
