"""Copies of `state.db` around an upgrade: made, looked at, and put back.

Run as a program by whoever upgrades: `python -I -m agent.store.copies`, as the agent's user, because root does not read
or write where another user can lay links. It prints what it found as JSON. Without a state there is no copy.
"""

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from agent.store.opening import connect, damaged

STATE = "state.db"
DAMAGED = f"{STATE}.damaged"
_PROMISES = ("deliveries", "deployments", "restores")
"""Tables whose rows somebody was told of; AUTOINCREMENT counts them."""


def contents(path: Path) -> dict[str, object] | None:
    """The version of the schema, and the last number of each table of promises; None of a file that is damaged. Raises
    sqlite3.Error if it cannot be looked at now."""
    if not path.exists():
        return {"version": 0, "promised": {}}
    try:
        return _contents(path)
    except sqlite3.DatabaseError as error:
        if not damaged(error):
            raise
        return None


def _contents(path: Path) -> dict[str, object]:
    with closing(connect(path, mode="ro")) as connection:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        counted = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone()
        rows = connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall() if counted else []
    return {"version": version, "promised": {name: seq for name, seq in rows if name in _PROMISES}}


def make(directory: Path, name: str) -> None:
    """A copy that is consistent, whether an agent runs or not; durable when it returns. Then copies of other upgrades
    go. Raises sqlite3.Error, OSError."""
    state, copy = directory / STATE, directory / name
    _sweep(directory)
    if state.exists():
        aside = directory / f".{name}.partial"
        try:
            _copy(state, aside)
        except BaseException:
            _sweep(directory)
            raise
        _settle(aside, copy)
    for old in directory.glob(f"{STATE}.before-*"):
        if old != copy or not state.exists():
            old.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    """What a power cut has left of a copy, or a full disk, with the journal of it."""
    for left in directory.glob(f".{STATE}.before-*.partial*"):
        left.unlink(missing_ok=True)


def _copy(state: Path, aside: Path) -> None:
    with closing(connect(state, mode="ro")) as source, closing(sqlite3.connect(aside)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, which nobody needs to write beside
        answer = target.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise sqlite3.DatabaseError(f"{STATE} is damaged: {answer}")


def put_back(directory: Path, name: str) -> None:
    """The copy takes the state's place, and stays. Nothing of the log of what stood there is left beside it; what is
    damaged is kept under another name. A cut in the middle leaves a state without its log: then it has to be run again,
    before any agent is. Raises sqlite3.Error, OSError."""
    state, aside = directory / STATE, directory / f".{STATE}.partial"
    if contents(state) is None:
        _keep_damaged(directory)
    there_was_one = (directory / name).exists()
    if there_was_one:
        shutil.copyfile(directory / name, aside)
    else:
        state.unlink(missing_ok=True)
    for log in (f"{STATE}-wal", f"{STATE}-shm"):
        (directory / log).unlink(missing_ok=True)
    _sync(directory)
    if there_was_one:
        _settle(aside, state)


def _keep_damaged(directory: Path) -> None:
    """For a person who wants to save something of it; the log first, which is not looked for without the file."""
    for name in (f"{STATE}-wal", STATE):
        if (directory / name).exists():
            (directory / name).replace(directory / name.replace(STATE, DAMAGED))


def _settle(aside: Path, path: Path) -> None:
    aside.chmod(0o600)
    _sync(aside)
    aside.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main(arguments: Sequence[str]) -> int:
    """`look PATH`, `make DIRECTORY NAME` or `put-back DIRECTORY NAME`."""
    try:
        match list(arguments):
            case ["look", path]:
                print(json.dumps(contents(Path(path))))
            case ["make", directory, name]:
                make(Path(directory), name)
            case ["put-back", directory, name]:
                put_back(Path(directory), name)
            case _:
                print("look PATH | make DIRECTORY NAME | put-back DIRECTORY NAME", file=sys.stderr)
                return 2
    except (sqlite3.Error, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
