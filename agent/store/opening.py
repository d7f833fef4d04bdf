"""`state.db` opened: its settings, its check, its migrations; and what an error of SQLite says about the disk.

Whatever is opened after an error is rewritten from its source: the write-ahead log is folded into the file and begun
anew. A sync that failed leaves pages that only memory has (fsyncgate); commits after them would be lost with them.
"""

import errno
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from agent.core.errors import Unavailable

_UNREADABLE = {
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN,
}  # fmt: skip
_LEFT_AS_IT_IS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

CACHE_KIBIBYTES = 512
"""Of each connection, of which SQLite would take 2 MB. The system keeps the file's pages in its own cache, too."""


class Gone(Exception):
    """The file that is written is not the one at its place any more: what is written to it is lost."""


def ran_out(error: Exception, *, opening: bool = False) -> bool:
    """Whether a full disk may be the reason. While `opening`, a file that could not be made may lack an inode."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(error, "sqlite_errorcode", 0)
    full = code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
    return full or (opening and _primary(error) == sqlite3.SQLITE_CANTOPEN)


def broken(error: Exception) -> bool:
    """Whether the connection must not be trusted any more: the disk failed, or the file is not what it was."""
    return not isinstance(error, sqlite3.Error) or _primary(error) in {*_UNREADABLE, sqlite3.SQLITE_READONLY}


def unreadable(error: Exception) -> bool:
    """Whether a reader met a disk that fails or a file that is damaged, and not merely another one's lock."""
    return _primary(error) in _UNREADABLE


def damaged(error: Exception) -> bool:
    """Whether the file itself is wrong, and not merely out of reach at this moment."""
    return _primary(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def identity(path: Path) -> tuple[tuple[int, int], ...]:
    """Which files stand at the places of the database and its log. Raises Gone."""
    try:
        found = [path.stat(), path.with_name(f"{path.name}-wal").stat()]
    except FileNotFoundError as error:
        raise Gone(f"{error.filename} was removed while the agent was running") from error
    return tuple((one.st_dev, one.st_ino) for one in found)


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """`mode` is rw or ro; a file that is not there is not made."""
    where = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES:d}")
        if mode == "ro":
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_write(path: Path, migrations: Sequence[Sequence[str]]) -> sqlite3.Connection:
    """The file, which is there, checked and migrated. Raises sqlite3.Error, OSError, Unavailable(state-too-new)."""
    connection = connect(path, mode="rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 1000")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise sqlite3.DatabaseError(f"{path.name} is damaged: {answer}")
        _fold(connection)
        _migrate(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _fold(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if _primary(error) not in _LEFT_AS_IT_IS:
            raise


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]]) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise Unavailable(
            "state-too-new", f"{path} has version {version}; this agent knows up to {len(migrations)}"
        )
    if 0 < version < len(migrations):
        with closing(sqlite3.connect(path.with_name(f"{path.name}.version-{version}"))) as copy:
            connection.backup(copy)
    for number, statements in enumerate(migrations[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number:d}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _primary(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
