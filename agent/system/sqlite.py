"""Other people's SQLite databases: copied consistently while they are written, examined, and asked for one value.

The only module besides `store/` that knows sqlite3. The rules:
- A live database is never copied by reading its file (measured: such a copy has no table at all), only by the
  backup API, inside one read transaction: writers of a WAL database go on, others wait as for any reader.
- `integrity_check` is no checksum (measured: a flipped byte passes it): a copy is also hashed by whoever keeps it.
- It is opened read-only. Only for a copy, when SQLite must first repair it (a journal that a crash left behind) or
  cannot use its shared memory, is it opened for writing, which does what the service's own next start would do.
- No file is made beside it, since the service's own user could not write what is the agent's: the service would be
  down. Read-only is not enough for that, see `_way_in`. A question repairs nothing either. Nor is the file ever
  opened here without SQLite: closing it would drop the locks of a copy that is under way (POSIX, per process).
All functions block: call them in a worker thread. Told to stop, they end within about a second.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.errors import StepFailed
from agent.core.text import clean

HEADER = b"SQLite format 3\0"
START = 100
"""How much of a file tells whether it is one: its header (sqlite.org/fileformat2.html#the_database_header)."""
SIDECARS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database: part of it, meaningless without it."""
VERSION = sqlite3.sqlite_version
BUSY_SECONDS = 15.0
_STEP_BYTES = 8 * 1024 * 1024
_TICK = 0.02
"""Seconds: two changes within one tick of the kernel's clock leave the same time on a file."""
_PATIENCE = 0.1
"""Seconds for which SQLite itself waits for a lock; then it is asked whether to go on."""
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
Stopped = Callable[[], bool]


def never() -> bool:
    """For work that nobody stops."""
    return False


_REPAIR = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@dataclass(frozen=True)
class Examined:
    """What was found in a copy. `problem` is SQLite's sentence, or "" for a sound one.

    A table whose rows cannot be counted (its module or collation is the application's own) is left out.
    """

    problem: str
    tables: dict[str, int] = field(default_factory=dict)


def is_database(start: bytes) -> bool:
    """Whether a file whose first START bytes these are is a SQLite database, by what SQLite itself asks of one."""
    return (
        len(start) >= START
        and start.startswith(HEADER)
        and start[21:24] == b"\x40\x20\x20"
        and page_size(start) in {1 << power for power in range(9, 17)}
    )


def page_size(start: bytes) -> int:
    """The page size that the start of a database tells; 4096 for an empty one."""
    if not start.startswith(HEADER) or len(start) < START:
        return 4096
    size = int.from_bytes(start[16:18], "big")
    return 65536 if size == 1 else size


def copy(source: Path, target: Path, *, seconds: float = 3600.0, stopped: Stopped = never) -> None:
    """Copies a live database into the new file `target`, as it was at one instant. Not fsynced.

    Waits up to `BUSY_SECONDS` for a writer that locks readers out, or for a service that opens and closes it again and
    again; a copy takes `seconds` at most. Raises backup-source-unreadable, backup-source-damaged, disk-full,
    disk-failed or backup-failed.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    real = Path(os.path.realpath(source))  # SQLite keeps its other files beside this one
    limit = time.monotonic() + BUSY_SECONDS
    while not _copied(real, target, seconds, stopped):
        if time.monotonic() > limit:
            raise StepFailed("backup-failed", f"{source}: somebody opens, writes and closes it all the while")
        _pause(_PATIENCE / 2)


def _copied(source: Path, target: Path, seconds: float, stopped: Stopped) -> bool:
    """One attempt. False: the way in became the wrong one meanwhile."""
    way, before = _way_in(source), _stamp(source)
    try:
        _copy(source, target, f"ro&{way}", seconds, stopped)
    except _Moved:
        return False
    except StepFailed:
        if stopped() or way != _AT_REST or _rests(source, before):
            raise
        return False
    except sqlite3.Error as error:
        if way == _AT_REST and not _rests(source, before):
            return False
        if (_code(error) & 0xFF) not in _REPAIR or not os.access(source, os.R_OK):
            raise _translate(error, source) from error
        try:
            _copy(source, target, "rw", seconds, stopped)
        except sqlite3.Error as second:
            raise _translate(second, source) from second
        return True
    return way != _AT_REST or _rests(source, before)


def examine(database: Path, stopped: Stopped = never) -> Examined:
    """Checks a copy that nobody writes, and counts its rows. It leaves no file beside it. Raises backup-failed when
    it is stopped."""
    uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA trusted_schema=OFF")
        try:
            with _interrupted(connection, stopped):
                problem = _problem(connection)
                return Examined(problem) if problem else Examined("", _count(connection))
        except sqlite3.DatabaseError as error:
            if stopped():
                raise StepFailed("backup-failed", "the check of a copy was cancelled") from error
            return Examined(clean(str(error)))


def rows(database: Path, stopped: Stopped = never) -> dict[str, int] | None:
    """The rows of each table of a live database, as they are at one instant; None if it is not there or does not
    read. Raises backup-failed when it is stopped."""
    real = Path(os.path.realpath(database))
    for _ in range(_ATTEMPTS):
        way, before = _way_in(real), _stamp(real)
        try:
            with closing(_open(real, way)) as connection:
                connection.execute("PRAGMA trusted_schema=OFF")
                with _interrupted(connection, stopped):
                    connection.execute("BEGIN")
                    found = _count(connection)
        except sqlite3.DatabaseError as error:
            if stopped():
                raise StepFailed("backup-failed", "counting rows was cancelled") from error
            return None
        if way != _AT_REST or _rests(real, before):
            return found
    return None


@contextmanager
def _interrupted(connection: sqlite3.Connection, stopped: Stopped) -> Iterator[None]:
    """Interrupts what the connection does once `stopped` says so: again and again, because what begins after an
    interruption knows nothing of it. (A progress handler does not reach integrity_check before SQLite 3.41.)"""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_PATIENCE):
            if stopped():
                connection.interrupt()

    watcher = threading.Thread(target=watch, name="homeport-interrupt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


class Unanswered(Exception):
    """Why a database gave no value, as a sentence."""


def value(database: Path, query: str, *, seconds: float, stopped: Stopped = never) -> object:
    """What one SELECT of one value gives; None for NULL and for no row. Ends within `seconds`. Raises Unanswered."""
    deadline = time.monotonic() + seconds

    def over() -> bool:
        return stopped() or time.monotonic() > deadline

    real = Path(os.path.realpath(database))  # SQLite keeps its other files beside this one
    if not real.is_file():
        raise Unanswered("there is no such file")
    attempts = 0
    while True:
        try:
            return _ask(real, query, over)
        except (sqlite3.Error, sqlite3.Warning) as error:
            code = _code(error)
            attempts += not _locked(code)
            if over() or attempts == _ATTEMPTS or code & 0xFF not in _PASSING:
                raise Unanswered(_reason(code, error, seconds)) from error
        _pause(_PATIENCE / 2)


_SHARED, _AT_REST, _LOCKING = "readonly_shm=1", "immutable=1", "nolock=0"
_LONGEST = 65536
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_PASSING = {*_LOCKED, *_DAMAGED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
"""What may be over in a moment: a lock, or that a service just opens or closes its database. (READONLY: a journal
that was about to be removed looks like one that a crash left.)"""
_ATTEMPTS = 3


def _way_in(database: Path) -> str:
    """How to open a database without making a file beside it (measured with 3.40).

    A WAL database that somebody has open, or that a crash left, has its log: it is shared, the index for reading only.
    One that nobody has open is whole without, but SQLite would make them, also when it opens it read-only; so it is
    read as if it could not change. What cannot be opened without locks, and only that, is a WAL database.
    """
    if _has_log(database):
        return _SHARED
    try:
        with closing(_open(database, "nolock=1")) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        return _AT_REST if _code(error) & 0xFF == sqlite3.SQLITE_CANTOPEN else _LOCKING
    return _LOCKING


def _has_log(database: Path) -> bool:
    return Path(f"{database}-wal").exists()


class _Moved(Exception):
    """A service closed its database while it was opened here."""


def _pause(seconds: float) -> None:
    """time.sleep() is refused where libfaketime stands in for the clock (EINVAL), as it does for a Pi without one."""
    threading.Event().wait(seconds)


def _stamp(database: Path) -> tuple[int, int, int]:
    """What is another one once somebody has written the file; nothing may have, within a tick of the kernel's clock."""
    _pause(_TICK)
    try:
        status = database.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _rests(database: Path, before: tuple[int, int, int]) -> bool:
    """Whether nobody has had it open since: what was read as if it could not change is whole."""
    return not _has_log(database) and _stamp(database) == before


def _open(database: Path, way: str) -> sqlite3.Connection:
    uri = f"{database.as_uri()}?mode=ro&{way}"
    return sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)


def _ask(database: Path, query: str, over: Stopped) -> object:
    """One attempt. The way in is looked at again as late as can be: in the microseconds that are left until SQLite
    holds its lock, a service that closes its database could be followed by an empty log, which is as good as none."""
    way = _way_in(database)
    with closing(_open(database, way)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
        )
        connection.set_progress_handler(over, 1000)
        if way == _SHARED and not _has_log(database):
            return _ask(database, query, over)
        cursor = connection.execute(query)
        if len(cursor.description or ()) != 1:
            raise Unanswered("the query must give one value")
        row = cursor.fetchone()
    if way == _AT_REST and _has_log(database):
        return _ask(database, query, over)
    return row[0] if row else None


def _locked(code: int) -> bool:
    """Whether somebody who lives keeps the database: also one who opens it and has not built its index yet."""
    return code & 0xFF in _LOCKED or code == sqlite3.SQLITE_READONLY_RECOVERY


def _reason(code: int, error: Exception, seconds: float) -> str:
    if code & 0xFF == sqlite3.SQLITE_INTERRUPT:
        return f"the query took longer than {seconds:g} s"
    if _locked(code):
        return f"the database stayed locked for {seconds:g} s"
    if code & 0xFF == sqlite3.SQLITE_READONLY:
        return "a crash left it in the middle of a write: its service has to open it first"
    return clean(str(error))


def _copy(source: Path, target: Path, mode: str, seconds: float, stopped: Stopped) -> None:
    deadline = time.monotonic() + seconds
    uri = f"{source.as_uri()}?mode={mode}"
    busy_since: list[float] = []

    def watch(status: int, remaining: int, total: int) -> None:  # noqa: ARG001 - sqlite3's shape
        now = time.monotonic()
        if status in _LOCKED:
            busy_since.append(now)
        if stopped():
            raise StepFailed("backup-failed", f"{source}: the copy was cancelled")
        if now > deadline or (busy_since and now - busy_since[0] > BUSY_SECONDS):
            raise StepFailed(
                "backup-failed", f"{source}: the database stayed locked, or took too long to copy"
            )

    with (
        closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)) as reader,
        closing(sqlite3.connect(target, isolation_level=None)) as writer,
    ):
        # Nothing but the copy's own end makes it count, so it needs neither journal nor fsync: on ext4 a small
        # copy that is removed within seconds never reaches the card.
        writer.execute("PRAGMA journal_mode=OFF")
        writer.execute("PRAGMA synchronous=OFF")
        # The read transaction makes the steps one instant; without it each foreign commit starts the copy anew.
        reader.execute("BEGIN")
        if mode.endswith(_SHARED) and not _has_log(source):
            raise _Moved
        tables = _begin_reading(reader, lambda: watch(sqlite3.SQLITE_BUSY, 0, 0))
        page = int(reader.execute("PRAGMA page_size").fetchone()[0])
        reader.backup(writer, pages=max(1, _STEP_BYTES // page), progress=watch, sleep=0.05)
        if writer.execute("SELECT count(*) FROM sqlite_master").fetchone() != tables:
            raise StepFailed("backup-failed", f"{source}: the copy has other tables than the database")
        reader.execute("COMMIT")


def _begin_reading(reader: sqlite3.Connection, wait: Callable[[], None]) -> object:
    """The number of tables. While a writer locks readers out it asks `wait`, which raises when it was enough."""
    while True:
        try:
            return reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if _code(error) & 0xFF not in _LOCKED:
                raise
        wait()


def _problem(connection: sqlite3.Connection) -> str:
    try:
        row = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if _code(error) & 0xFF == sqlite3.SQLITE_ERROR:
            return ""  # a collation or module of the application's own: SQLite cannot judge, the hashes will
        raise
    return "" if row is None or row[0] == "ok" else clean(str(row[0]))


def _count(connection: sqlite3.Connection) -> dict[str, int]:
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    counts: dict[str, int] = {}
    for (name,) in names:
        quoted = name.replace('"', '""')
        try:
            counts[name] = connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0]  # noqa: S608 - quoted
        except sqlite3.OperationalError as error:
            if _code(error) & 0xFF != sqlite3.SQLITE_ERROR:
                raise
    return counts


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) or 0


def _translate(error: sqlite3.Error, source: Path) -> StepFailed:
    code = _code(error) & 0xFF
    text = clean(f"{source}: {error}", 512)
    if code in _DAMAGED:
        return StepFailed("backup-source-damaged", text)
    if code == sqlite3.SQLITE_FULL:
        return StepFailed("disk-full", f"the temporary copy of {text}")
    if code == sqlite3.SQLITE_IOERR:
        return StepFailed("disk-failed", text)
    if code in (*_REPAIR, sqlite3.SQLITE_PERM):
        return StepFailed("backup-source-unreadable", text)
    return StepFailed("backup-failed", text)
