"""One value of a live database, for a probe."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from agent.core.text import clean
from agent.system.sqlite.ways import (
    AT_REST,
    ATTEMPTS,
    DAMAGED,
    LOCKED,
    PATIENCE,
    SHARED,
    Stopped,
    code_of,
    has_log,
    never,
    opened,
    pause,
    way_in,
)

_LONGEST = 65536
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_PASSING = {*LOCKED, *DAMAGED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
"""What may be over in a moment: a lock, or that a service just opens or closes its database. (READONLY: a journal
that was about to be removed looks like one that a crash left.)"""


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
            code = code_of(error)
            attempts += not _locked(code)
            if over() or attempts == ATTEMPTS or code & 0xFF not in _PASSING:
                raise Unanswered(_reason(code, error, seconds)) from error
        pause(PATIENCE / 2)


def _ask(database: Path, query: str, over: Stopped) -> object:
    """One attempt. The way in is looked at again as late as can be: in the microseconds that are left until SQLite
    holds its lock, a service that closes its database could be followed by an empty log, which is as good as none."""
    way = way_in(database)
    with closing(opened(database, way)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
        )
        connection.set_progress_handler(over, 1000)
        if way == SHARED and not has_log(database):
            return _ask(database, query, over)
        cursor = connection.execute(query)
        if len(cursor.description or ()) != 1:
            raise Unanswered("the query must give one value")
        row = cursor.fetchone()
    if way == AT_REST and has_log(database):
        return _ask(database, query, over)
    return row[0] if row else None


def _locked(code: int) -> bool:
    """Whether somebody who lives keeps the database: also one who opens it and has not built its index yet."""
    return code & 0xFF in LOCKED or code == sqlite3.SQLITE_READONLY_RECOVERY


def _reason(code: int, error: Exception, seconds: float) -> str:
    if code & 0xFF == sqlite3.SQLITE_INTERRUPT:
        return f"the query took longer than {seconds:g} s"
    if _locked(code):
        return f"the database stayed locked for {seconds:g} s"
    if code & 0xFF == sqlite3.SQLITE_READONLY:
        return "a crash left it in the middle of a write: its service has to open it first"
    return clean(str(error))
