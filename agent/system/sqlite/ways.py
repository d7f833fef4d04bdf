"""Ways into a database that leave no file beside it, and what SQLite's errors mean there."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

SHARED, AT_REST, LOCKING = "readonly_shm=1", "immutable=1", "nolock=0"
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
PATIENCE = 0.1
"""Seconds for which SQLite itself waits for a lock; then it is asked whether to go on."""
ATTEMPTS = 3
_TICK = 0.02
"""Seconds: two changes within one tick of the kernel's clock leave the same time on a file."""
Stopped = Callable[[], bool]


def never() -> bool:
    """For work that nobody stops."""
    return False


def way_in(database: Path) -> str:
    """How to open a database without making a file beside it (measured with 3.40).

    A WAL database that somebody has open, or that a crash left, has its log: it is shared, the index for reading only.
    One that nobody has open is whole without, but SQLite would make them, also when it opens it read-only; so it is
    read as if it could not change. What cannot be opened without locks, and only that, is a WAL database.
    """
    if has_log(database):
        return SHARED
    try:
        with closing(opened(database, "nolock=1")) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        return AT_REST if code_of(error) & 0xFF == sqlite3.SQLITE_CANTOPEN else LOCKING
    return LOCKING


def has_log(database: Path) -> bool:
    """Whether a log stands beside it: somebody has it open, or a crash left it."""
    return Path(f"{database}-wal").exists()


def pause(seconds: float) -> None:
    """time.sleep() is refused where libfaketime stands in for the clock (EINVAL), as it does for a Pi without one."""
    threading.Event().wait(seconds)


def stamp(database: Path) -> tuple[int, int, int]:
    """What is another one once somebody has written the file; nothing may have, within a tick of the kernel's clock."""
    pause(_TICK)
    try:
        status = database.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_size, status.st_mtime_ns


def rests(database: Path, before: tuple[int, int, int]) -> bool:
    """Whether nobody has had it open since: what was read as if it could not change is whole."""
    return not has_log(database) and stamp(database) == before


def opened(database: Path, way: str) -> sqlite3.Connection:
    """A connection for reading, by this way; whoever asks closes it."""
    uri = f"{database.as_uri()}?mode=ro&{way}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)


def code_of(error: Exception) -> int:
    """SQLite's extended error code; 0 if the error is not SQLite's own. Its low byte is the kind."""
    return getattr(error, "sqlite_errorcode", 0) or 0
