"""Whether a copy is sound, and how many rows each table has."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.errors import StepFailed
from agent.core.text import clean
from agent.system.sqlite.ways import (
    AT_REST,
    ATTEMPTS,
    PATIENCE,
    Stopped,
    code_of,
    never,
    opened,
    rests,
    stamp,
    way_in,
)


@dataclass(frozen=True)
class Examined:
    """What was found in a copy. `problem` is SQLite's sentence, or "" for a sound one.

    A table whose rows cannot be counted (its module or collation is the application's own) is left out.
    """

    problem: str
    tables: dict[str, int] = field(default_factory=dict)


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
    for _ in range(ATTEMPTS):
        way, before = way_in(real), stamp(real)
        try:
            with closing(opened(real, way)) as connection:
                connection.execute("PRAGMA trusted_schema=OFF")
                with _interrupted(connection, stopped):
                    connection.execute("BEGIN")
                    found = _count(connection)
        except sqlite3.DatabaseError as error:
            if stopped():
                raise StepFailed("backup-failed", "counting rows was cancelled") from error
            return None
        if way != AT_REST or rests(real, before):
            return found
    return None


@contextmanager
def _interrupted(connection: sqlite3.Connection, stopped: Stopped) -> Iterator[None]:
    """Interrupts what the connection does once `stopped` says so: again and again, because what begins after an
    interruption knows nothing of it. (A progress handler does not reach integrity_check before SQLite 3.41.)"""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(PATIENCE):
            if stopped():
                connection.interrupt()

    watcher = threading.Thread(target=watch, name="homeport-interrupt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _problem(connection: sqlite3.Connection) -> str:
    try:
        row = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if code_of(error) & 0xFF == sqlite3.SQLITE_ERROR:
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
            if code_of(error) & 0xFF != sqlite3.SQLITE_ERROR:
                raise
    return counts
