"""What systemd itself says of the units in systemd/: they are understood, and they are closed."""

import re
import subprocess
from pathlib import Path

import pytest

from agent.core.upgrading import unit
from tests.core.test_upgrading import MARK
from tests.meta.sources import ROOT

pytestmark = pytest.mark.root

UNITS = ROOT / "systemd"
PROGRAMS = ("/opt/homeport/bin/homeport", "/opt/homeport/bin/python")

OPEN = {"homeport-upstream@.service": 4.0}
"""What is root, because nginx is."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of all of them, the agent replaced by a program that is there; a template has an instance."""
    for file in UNITS.iterdir():
        text = file.read_text()
        for program in PROGRAMS:
            text = text.replace(program, "/bin/true")
        (tmp_path / file.name).write_text(text)
    return tmp_path


def complaints(units: Path, *names: str) -> str:
    """What `systemd-analyze verify` prints."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(units / name) for name in names)],
        cwd=units, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return f"{done.stdout}{done.stderr}" + (f"exit status {done.returncode}" if done.returncode else "")


def exposure(unit: Path) -> float:
    """From 0.0 (closed) to 10.0 (open)."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", str(unit)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def all_names() -> list[str]:
    return sorted(file.name.replace("@.", "@9100.") for file in UNITS.iterdir())


@pytest.mark.parametrize("name", all_names())
def test_systemd_understands_every_line(units: Path, name: str) -> None:
    """R-SD-1."""
    assert complaints(units, name) == ""


def test_systemd_understands_the_unit_of_an_upgrade(units: Path) -> None:
    """R-SD-1. It is written for each one."""
    text = unit(MARK).replace(f"{MARK.old_directory}/bin/python", "/bin/true")
    (units / "homeport-upgrade.service").write_text(text)
    assert complaints(units, "homeport-upgrade.service") == ""


def test_a_line_that_systemd_does_not_know_is_told(units: Path) -> None:
    """The guard itself."""
    unit = units / "homeport.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchDogSeconds=60"))
    assert "WatchDogSeconds" in complaints(units, unit.name)


@pytest.mark.parametrize(
    "name", sorted(file.name for file in UNITS.glob("*.service") if not file.name.startswith("example@"))
)
def test_what_is_left_open_is_little(units: Path, name: str) -> None:
    """R-SD-1."""
    assert exposure(units / name) <= OPEN.get(name, 1.5)


@pytest.mark.parametrize(
    "line", ["SystemCallFilter=@system-service", "CapabilityBoundingSet=", "User=homeport", "ProtectSystem=strict"]
)  # fmt: skip
def test_a_line_that_is_missing_is_seen(units: Path, line: str) -> None:
    """The guard itself: each of these was dropped."""
    unit = units / "homeport.service"
    text = unit.read_text()
    assert f"\n{line}\n" in text
    unit.write_text(text.replace(f"\n{line}\n", "\n"))
    assert exposure(unit) > 1.5
