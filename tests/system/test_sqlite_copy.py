"""A copy of somebody else's database: it makes no file beside it, in whichever state a service or a crash left it.

Such a file would belong to the agent's user, and the service's own user could not write it: the service would be down.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.errors import StepFailed
from agent.system import sqlite
from tests.system.test_sqlite_value import (  # noqa: F401 - fixtures
    RESTLESS,
    a_service,
    lying_around,
    mode,
    path,
)


def copied(database: Path) -> list[int]:
    """What a copy has; nothing was made, changed or removed for it."""
    before, target = lying_around(database), database.parent.parent / "copy.db"
    target.unlink(missing_ok=True)
    sqlite.copy(database, target)
    assert lying_around(database) == before
    return values(target)


def counted(database: Path) -> list[int]:
    """The same of the counting of rows, as numbers from 1 on."""
    before = lying_around(database)
    rows = sqlite.rows(database)
    assert lying_around(database) == before
    assert rows is not None
    return list(range(1, rows["t"] + 1))


def values(database: Path) -> list[int]:
    uri = f"{database.as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in connection.execute("SELECT x FROM t ORDER BY x")]


@pytest.fixture(params=[copied, counted])
def read(request: pytest.FixtureRequest) -> Callable[[Path], list[int]]:
    """Each way to read a whole database."""
    found: Callable[[Path], list[int]] = request.param
    return found


def test_one_that_nobody_has_open(path: Path, read: Callable[[Path], list[int]]) -> None:  # noqa: F811
    assert read(path) == [1]


def test_one_that_a_service_has_open(
    path: Path,  # noqa: F811
    mode: str,  # noqa: F811
    read: Callable[[Path], list[int]],
) -> None:
    with a_service(path, f"PRAGMA journal_mode={mode}; INSERT INTO t VALUES (2)"):
        assert read(path) == [1, 2]


def test_one_whose_service_was_killed(
    path: Path,  # noqa: F811
    mode: str,  # noqa: F811
    read: Callable[[Path], list[int]],
) -> None:
    with a_service(path, f"PRAGMA journal_mode={mode}; INSERT INTO t VALUES (2)"):
        pass
    assert read(path) == [1, 2]


def test_one_behind_a_link(path: Path, tmp_path: Path) -> None:  # noqa: F811
    """SQLite keeps its other files beside the real one."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    before = lying_around(path)
    sqlite.copy(link, tmp_path / "copy.db")
    assert (lying_around(path), values(tmp_path / "copy.db")) == (before, [1])
    assert not list(tmp_path.glob("link.db-*"))


def test_many_while_a_service_opens_writes_and_closes(path: Path, tmp_path: Path) -> None:  # noqa: F811
    """A crash loop. The way in may become the wrong one at any instant: then it is read again, never half."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", RESTLESS, path], stderr=subprocess.PIPE
    ) as service:
        try:
            last, target = 0, tmp_path / "copy.db"
            while last < 20:
                target.unlink(missing_ok=True)
                sqlite.copy(path, target)
                found = values(target)
                assert found == list(range(1, len(found) + 1))
                assert len(found) >= last
                last = len(found)
            assert service.poll() is None, "the service was not disturbed"
        finally:
            service.kill()


def test_one_that_never_rests_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode=wal; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    monkeypatch.setattr(sqlite.copying, "BUSY_SECONDS", 0.3)

    def stopped() -> bool:
        """Is asked in the middle of a copy: then somebody opens, writes and closes it."""
        with closing(sqlite3.connect(database, isolation_level=None)) as service:
            service.execute("INSERT INTO t VALUES (2)")
        return False

    with pytest.raises(StepFailed, match="opens, writes and closes") as failure:
        sqlite.copy(database, tmp_path / "copy.db", stopped=stopped)
    assert failure.value.code == "backup-failed"
