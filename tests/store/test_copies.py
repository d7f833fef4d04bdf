"""Copies of the state around an upgrade, of real databases."""

import json
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.store.copies import contents, main, make, put_back
from agent.store.opening import open_to_write
from agent.store.schema import MIGRATIONS

NAME = "state.db.before-0.2.0"
NEWER = (*MIGRATIONS, ("CREATE TABLE of_the_new(x INTEGER) STRICT",))


def delivered(connection: sqlite3.Connection, digest: str) -> None:
    connection.execute(
        "INSERT INTO deliveries(digest, id, event, received_at, secret, repository, ref, sender, decision, reason)"
        " VALUES (?, 'id', 'push', 1, 0, 'me/app', 'main', 'me', 'deploy', '')",
        (digest,),
    )


def deliveries(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT digest FROM deliveries ORDER BY number")]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """What an agent that runs holds open, with one delivery in its log."""
    (tmp_path / "state.db").touch(mode=0o600)
    connection = open_to_write(tmp_path / "state.db", MIGRATIONS)
    delivered(connection, "one")
    yield connection
    connection.close()


def test_a_copy_is_whole_while_an_agent_runs(tmp_path: Path, agent: sqlite3.Connection) -> None:
    assert (tmp_path / "state.db-wal").stat().st_size > 0
    make(tmp_path, NAME)
    delivered(agent, "two")
    assert deliveries(tmp_path / NAME) == ["one"]
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".*"))


def test_what_is_in_it_is_told_by_schema_and_last_numbers(tmp_path: Path, agent: sqlite3.Connection) -> None:
    delivered(agent, "two")
    found = contents(tmp_path / "state.db")
    assert found == {"version": len(MIGRATIONS), "promised": {"deliveries": 2}}


def test_only_the_copy_of_the_last_upgrade_stays(tmp_path: Path, agent: sqlite3.Connection) -> None:
    for name in ("state.db.before-0.1.1", NAME, NAME):
        make(tmp_path, name)
    assert [path.name for path in tmp_path.glob("state.db.*")] == [NAME]


def test_a_copy_takes_the_place_of_what_a_newer_version_left(
    tmp_path: Path, agent: sqlite3.Connection
) -> None:
    """Also of its log, which would otherwise be played into the copy."""
    make(tmp_path, NAME)
    agent.close()
    newer = open_to_write(tmp_path / "state.db", NEWER)
    newer.execute("INSERT INTO of_the_new VALUES (1)")
    log = (tmp_path / "state.db-wal").read_bytes()
    newer.close()
    (tmp_path / "state.db-wal").write_bytes(log)  # as a process leaves it that is killed
    for _ in range(2):  # a cut has it done twice
        put_back(tmp_path, NAME)
        assert contents(tmp_path / "state.db") == {"version": len(MIGRATIONS), "promised": {"deliveries": 1}}
        assert deliveries(tmp_path / "state.db") == ["one"]
    assert (tmp_path / NAME).exists()


def test_where_there_was_no_state_there_is_none_again(tmp_path: Path) -> None:
    make(tmp_path, NAME)
    assert list(tmp_path.iterdir()) == []
    assert contents(tmp_path / "state.db") == {"version": 0, "promised": {}}
    (tmp_path / "state.db").touch()
    open_to_write(tmp_path / "state.db", MIGRATIONS).close()
    put_back(tmp_path, NAME)
    assert not (tmp_path / "state.db").exists()


def test_a_copy_of_an_earlier_upgrade_is_not_taken_for_one_of_no_state(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"of last year")
    make(tmp_path, NAME)
    assert not (tmp_path / NAME).exists()


def test_a_damaged_state_is_not_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the upgrade before has left stays, and nothing half."""
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    (tmp_path / "state.db.before-0.1.1").write_bytes(b"whole")
    assert main(["make", str(tmp_path), NAME]) == 1
    assert "not a database" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.db", "state.db.before-0.1.1"]


def test_what_a_cut_has_left_of_another_copy_goes(tmp_path: Path, agent: sqlite3.Connection) -> None:
    for left in (".state.db.before-0.1.1.partial", ".state.db.before-0.1.1.partial-journal"):
        (tmp_path / left).write_bytes(b"half")
    make(tmp_path, NAME)
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_file_is_told_from_one_that_is_out_of_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the first may lead to an older state."""
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    assert main(["look", str(tmp_path / "state.db")]) == 0
    assert json.loads(capsys.readouterr().out) is None
    assert main(["look", str(tmp_path)]) == 1  # nobody can read a directory
    assert "disk I/O error" in capsys.readouterr().err


def test_a_damaged_state_is_kept_beside_the_copy_that_takes_its_place(
    tmp_path: Path, agent: sqlite3.Connection
) -> None:
    make(tmp_path, NAME)
    agent.close()
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    (tmp_path / "state.db-wal").write_bytes(b"its log")
    for _ in range(2):
        put_back(tmp_path, NAME)
    assert deliveries(tmp_path / "state.db") == ["one"]
    assert (tmp_path / "state.db.damaged").read_bytes() == b"no database" * 1000
    assert (tmp_path / "state.db.damaged-wal").read_bytes() == b"its log"
    assert not (tmp_path / "state.db-wal").exists()


def test_as_a_program_it_prints_what_it_found(
    tmp_path: Path, agent: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", str(tmp_path), NAME]) == 0
    assert main(["look", str(tmp_path / NAME)]) == 0
    assert json.loads(capsys.readouterr().out)["promised"] == {"deliveries": 1}
    assert main(["put-back", str(tmp_path), NAME]) == 0
    assert main(["burn"]) == 2
