"""What the contracts of backups are tried on."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.backup import a_store
from agent.core.ports import BackupStore


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A service's directory with some files and a database."""
    directory = tmp_path / "service"
    shared = directory / "shared"
    (shared / "data" / "empty").mkdir(parents=True)
    (shared / "data" / "a.txt").write_bytes(b"hello")
    (shared / "data" / "large").write_bytes(os.urandom(700_000))
    (shared / "data" / "link").symlink_to("a.txt")
    with closing(sqlite3.connect(shared / "data.db")) as connection, connection:
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
        connection.executemany("INSERT INTO t(body) VALUES(?)", ((f"row {n} " * 40,) for n in range(3000)))
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the store lies."""
    return tmp_path / "state" / "backups"


@pytest.fixture(params=["archive"])
def store(request: pytest.FixtureRequest, root: Path) -> BackupStore:
    """Every store that there is."""
    return {"archive": lambda: a_store(root)}[request.param]()
