"""The parts of an installed homeport, made below a directory: who runs the tests stands for every owner."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.errors import Refused
from agent.core.installing import CREDENTIALS, Change, Kind, Seen, Wanted, compare, wanted
from agent.core.uninstalling import removals
from agent.system import commands
from agent.system.machine import Accounts, Machine
from tests.core.test_installing import FACTS, a_configuration


class Everybody(Accounts):
    """Every name is whoever runs the tests; users are only noted."""

    def __init__(self) -> None:
        self.there: set[tuple[str, str]] = set()

    def ids(self, owner: str, group: str) -> tuple[int, int]:
        return os.geteuid(), os.getegid()

    def names(self, uid: int, gid: int) -> tuple[str, str]:
        return "?", "?"

    def look(self, want: Wanted) -> Seen:
        return Seen(kind=str(want.kind) if (want.kind, want.name) in self.there else "")

    def make(self, want: Wanted) -> None:
        self.there.add((want.kind, want.name))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "etc").mkdir()
    (tmp_path / "srv").mkdir()
    return Machine(tmp_path, Everybody())


def the_parts() -> list[Wanted]:
    """As on a real one, with the only owner that there is here."""
    parts = wanted(a_configuration(scraper={}), FACTS)
    return [
        Wanted(
            kind=item.kind,
            name=item.name,
            why=item.why,
            content=item.content,
            mode=item.mode,
            owner="?",
            group="?",
        )
        for item in parts
        if item.kind is not Kind.WORKPLACE  # given by the agent's user, who is not here
    ]


def install(machine: Machine) -> list[Change]:
    changes = [change for item in the_parts() if (change := compare(item, machine.look(item)))]
    for change in changes:
        machine.carry_out(change)
    return changes


def test_a_second_run_finds_nothing_to_do(machine: Machine) -> None:
    assert len(install(machine)) > 10
    assert install(machine) == []


def test_everything_has_its_mode_from_the_start(machine: Machine, tmp_path: Path) -> None:
    install(machine)
    for item in the_parts():
        if item.kind in (Kind.FILE, Kind.OWN, Kind.SECRET, Kind.KEY, Kind.DIRECTORY):
            found = (tmp_path / item.name.lstrip("/")).lstat()
            assert stat.S_IMODE(found.st_mode) == item.mode, item.name


def test_what_a_person_wrote_stays(machine: Machine, tmp_path: Path) -> None:
    install(machine)
    config, secret = (
        tmp_path / "etc/homeport/config.yaml",
        tmp_path / f"{CREDENTIALS}/webhook-secret".lstrip("/"),
    )
    config.write_text("mine")
    secret.write_text("mine")
    unit = tmp_path / "etc/systemd/system/homeport.service"
    unit.write_text("spoilt")
    assert [change.what.name for change in install(machine)] == ["/etc/systemd/system/homeport.service"]
    assert (config.read_text(), secret.read_text(), unit.read_text()) == ("mine", "mine", "agent\n")


def test_a_secret_is_random_and_told_to_whoever_made_it(machine: Machine, tmp_path: Path) -> None:
    install(machine)
    (secret,) = machine.made.values()
    assert len(bytes.fromhex(secret)) == 32
    assert (tmp_path / f"{CREDENTIALS}/webhook-secret".lstrip("/")).read_text() == secret


def test_a_key_is_whole_or_not_there(machine: Machine, tmp_path: Path) -> None:
    """What a cut has left of one is made anew, under no name that anybody reads."""
    credentials = tmp_path / CREDENTIALS.lstrip("/")
    credentials.mkdir(parents=True)
    for left in (".deploy-key.new", ".deploy-key.new.pub"):
        (credentials / left).write_bytes(b"")
    install(machine)
    assert sorted(path.name for path in credentials.iterdir()) == [
        "deploy-key",
        "deploy-key.pub",
        "webhook-secret",
    ]
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", credentials / "deploy-key"], check=True, capture_output=True, text=True
    ).stdout
    assert (credentials / "deploy-key.pub").read_text() == derived


def test_a_mode_that_was_opened_is_closed_again(machine: Machine, tmp_path: Path) -> None:
    install(machine)
    secret = tmp_path / f"{CREDENTIALS}/webhook-secret".lstrip("/")
    secret.chmod(0o644)
    assert [change.act for change in install(machine)] == ["set"]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_place_on_somebody_elses_way_is_refused(machine: Machine, tmp_path: Path) -> None:
    """A root that makes a directory where another user can put links would be led astray."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a directory of somebody else's")
    os.chown(tmp_path / "srv", 12345, 12345)
    want = Wanted(kind=Kind.DIRECTORY, name="/srv/x", why="", owner="homeport", group="homeport", mode=0o777)
    for refuses in (machine.demand, machine.carry_out):
        with pytest.raises(Refused, match="belongs to"):
            refuses(Change("make", want))
    assert not (tmp_path / "srv/x").exists()
    (tmp_path / "srv/x").mkdir(mode=0o700)
    with pytest.raises(Refused, match="belongs to"):
        machine.carry_out(Change("set", want))
    assert stat.S_IMODE((tmp_path / "srv/x").stat().st_mode) == 0o700


def test_owner_and_mode_are_not_set_through_a_link(machine: Machine, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    target.chmod(0o600)
    (tmp_path / "etc/link").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        machine.carry_out(Change("set", Wanted(kind=Kind.OWN, name="/etc/link", why="", mode=0o666)))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_program_that_is_run_has_no_terminal_of_roots() -> None:
    """Another user's process that had it could type into it: `install` runs some as the agent's user."""
    done = commands.run(sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())")
    assert done.text == "True"


def test_uninstall_removes_what_is_there_and_a_second_time_nothing(machine: Machine, tmp_path: Path) -> None:
    install(machine)
    done: list[int] = []
    parts = removals(purge=False, recipes=["scraper"])
    for _ in range(2):
        changes = [change for item in parts if (change := compare(item, machine.look(item)))]
        for change in changes:
            machine.carry_out(change)
        done.append(len(changes))
    assert done == [10, 0]
    assert list((tmp_path / "etc/systemd/system").iterdir()) == []
    assert not (tmp_path / "etc/homeport-build").exists()
    assert (tmp_path / "etc/homeport/config.yaml").exists()
    assert (tmp_path / "srv/scraper").is_dir()
