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

from agent.store.opening import connect

STATE = "state.db"
_PROMISES = ("deliveries", "deployments", "restores")
"""Tables whose rows somebody was told of; AUTOINCREMENT counts them."""


def contents(path: Path) -> dict[str, object]:
    """The version of the schema, and the last number of each table of promises. Raises sqlite3.Error."""
    if not path.exists():
        return {"version": 0, "promised": {}}
    with closing(connect(path, mode="ro")) as connection:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        counted = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone()
        rows = connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall() if counted else []
    return {"version": version, "promised": {name: seq for name, seq in rows if name in _PROMISES}}


def make(directory: Path, name: str) -> None:
    """A copy that is consistent, whether an agent runs or not; durable when it returns. Copies of other upgrades go.
    Raises sqlite3.Error, OSError."""
    state, copy = directory / STATE, directory / name
    aside = directory / f".{name}.partial"
    for old in [aside, *directory.glob(f"{STATE}.before-*")]:
        if old != copy or not state.exists():
            old.unlink(missing_ok=True)
    if not state.exists():
        return
    with closing(connect(state, mode="ro")) as source, closing(sqlite3.connect(aside)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, which nobody needs to write beside
        answer = target.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise sqlite3.DatabaseError(f"{STATE} is damaged: {answer}")
    _settle(aside, copy)


def put_back(directory: Path, name: str) -> None:
    """The copy takes the state's place, and stays. Nothing of the log of what stood there is left beside it. Can be run
    again after a cut, as long as no agent runs. Raises OSError."""
    state, aside = directory / STATE, directory / f".{STATE}.partial"
    if not (directory / name).exists():
        state.unlink(missing_ok=True)  # there was none before
    else:
        shutil.copyfile(directory / name, aside)
    for log in (f"{STATE}-wal", f"{STATE}-shm"):
        (directory / log).unlink(missing_ok=True)
    _sync(directory)
    if aside.exists():
        _settle(aside, state)


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
