"""A consistent copy of a live database."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent.core.errors import StepFailed
from agent.core.text import clean
from agent.system.sqlite.ways import (
    AT_REST,
    DAMAGED,
    LOCKED,
    PATIENCE,
    SHARED,
    Stopped,
    code_of,
    has_log,
    never,
    pause,
    rests,
    stamp,
    way_in,
)

BUSY_SECONDS = 15.0
_STEP_BYTES = 8 * 1024 * 1024
_REPAIR = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}


class _Moved(Exception):
    """A service closed its database while it was opened here."""


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
        pause(PATIENCE / 2)


def _copied(source: Path, target: Path, seconds: float, stopped: Stopped) -> bool:
    """One attempt. False: the way in became the wrong one meanwhile."""
    way, before = way_in(source), stamp(source)
    try:
        _copy(source, target, f"ro&{way}", seconds, stopped)
    except _Moved:
        return False
    except StepFailed:
        if stopped() or way != AT_REST or rests(source, before):
            raise
        return False
    except sqlite3.Error as error:
        if way == AT_REST and not rests(source, before):
            return False
        if (code_of(error) & 0xFF) not in _REPAIR or not os.access(source, os.R_OK):
            raise _translate(error, source) from error
        try:
            _copy(source, target, "rw", seconds, stopped)
        except sqlite3.Error as second:
            raise _translate(second, source) from second
        return True
    return way != AT_REST or rests(source, before)


def _copy(source: Path, target: Path, mode: str, seconds: float, stopped: Stopped) -> None:
    deadline = time.monotonic() + seconds
    uri = f"{source.as_uri()}?mode={mode}"
    busy_since: list[float] = []

    def watch(status: int, remaining: int, total: int) -> None:  # noqa: ARG001 - sqlite3's shape
        now = time.monotonic()
        if status in LOCKED:
            busy_since.append(now)
        if stopped():
            raise StepFailed("backup-failed", f"{source}: the copy was cancelled")
        if now > deadline or (busy_since and now - busy_since[0] > BUSY_SECONDS):
            raise StepFailed(
                "backup-failed", f"{source}: the database stayed locked, or took too long to copy"
            )

    with (
        closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)) as reader,
        closing(sqlite3.connect(target, isolation_level=None)) as writer,
    ):
        # Nothing but the copy's own end makes it count, so it needs neither journal nor fsync: on ext4 a small
        # copy that is removed within seconds never reaches the card.
        writer.execute("PRAGMA journal_mode=OFF")
        writer.execute("PRAGMA synchronous=OFF")
        # The read transaction makes the steps one instant; without it each foreign commit starts the copy anew.
        reader.execute("BEGIN")
        if mode.endswith(SHARED) and not has_log(source):
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
            if code_of(error) & 0xFF not in LOCKED:
                raise
        wait()


def _translate(error: sqlite3.Error, source: Path) -> StepFailed:
    code = code_of(error) & 0xFF
    text = clean(f"{source}: {error}", 512)
    if code in DAMAGED:
        return StepFailed("backup-source-damaged", text)
    if code == sqlite3.SQLITE_FULL:
        return StepFailed("disk-full", f"the temporary copy of {text}")
    if code == sqlite3.SQLITE_IOERR:
        return StepFailed("disk-failed", text)
    if code in (*_REPAIR, sqlite3.SQLITE_PERM):
        return StepFailed("backup-source-unreadable", text)
    return StepFailed("backup-failed", text)
