"""R-SD-9: what homeport-failed.service does, run as systemd would run it, with a journal of the test's own."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.meta.sources import ROOT

pytestmark = pytest.mark.outside

UNIT = ROOT / "systemd" / "homeport-failed.service"
JOURNALCTL = """#!/bin/sh
printf '%s\\n' "$*" >> "$(dirname "$0")/asked"
printf 'the state cannot be opened\\n100%% of the disk is used\\n'
"""
ENDED = {"MONITOR_SERVICE_RESULT": "watchdog", "MONITOR_EXIT_CODE": "killed", "MONITOR_EXIT_STATUS": "ABRT"}


class Alarm:
    """The unit's command, once its agent has failed."""

    def __init__(self, directory: Path) -> None:
        self.hook = directory / "on-failure"
        self.got = directory / "got"
        self.directory = directory
        (directory / "journalctl").write_text(JOURNALCTL)
        (directory / "journalctl").chmod(0o755)

    def make_hook(self, text: str, mode: int = 0o755) -> None:
        self.hook.write_text(text)
        self.hook.chmod(mode)

    def go(self, **environment: str) -> tuple[int, str]:
        """Its exit status, and what came into the journal."""
        done = subprocess.run(
            command(),
            env={"PATH": f"{self.directory}:{os.environ['PATH']}", "HOOK": str(self.hook)} | environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def alarm(tmp_path: Path) -> Alarm:
    return Alarm(tmp_path)


def command() -> list[str]:
    """ExecStart= as systemd.service(5) reads it: lines that are continued, quotes, and two signs that are doubled."""
    _, _, rest = UNIT.read_text().replace("\\\n", "").partition("\nExecStart=-")
    line = rest.partition("\n")[0]
    assert "$" not in line.replace("$$", "")
    assert "%" not in line.replace("%%", "")
    return shlex.split(line.replace("$$", "$").replace("%%", "%").replace("\\\\", "\\"))


def test_the_journal_is_told_with_the_last_lines_of_the_agent(alarm: Alarm) -> None:
    """R-SD-9: each line as an error; without a hook that is all."""
    status, said = alarm.go(**ENDED)
    assert status == 0
    first, *rest = said.splitlines()
    assert first.startswith("<3>homeport is down on ")
    assert "watchdog (killed ABRT)" in first
    assert rest == ["<3>| the state cannot be opened", "<3>| 100% of the disk is used"]
    assert "--unit=homeport.service" in (alarm.directory / "asked").read_text()


def test_the_hook_gets_it_on_its_standard_input(alarm: Alarm) -> None:
    """R-SD-9: one line of curl in it reaches a telephone."""
    alarm.make_hook(f"#!/bin/sh\ncat > {alarm.got}\n")
    status, said = alarm.go()
    assert status == 0
    assert "on-failure" not in said
    told = alarm.got.read_text().splitlines()
    assert "is down" in told[0]
    assert told[1:] == ["the state cannot be opened", "100% of the disk is used"]


def test_a_hook_that_fails_is_told_and_the_unit_does_not_fail(alarm: Alarm) -> None:
    """R-SD-9."""
    alarm.make_hook("#!/bin/sh\nexit 7\n")
    status, said = alarm.go()
    assert status == 0
    assert f"<3>{alarm.hook} failed (exit status 7)" in said


def test_a_hook_that_nobody_may_execute_is_told(alarm: Alarm) -> None:
    """R-SD-9: the mode is the mistake that is made."""
    alarm.make_hook(f"#!/bin/sh\ntouch {alarm.got}\n", mode=0o644)
    status, said = alarm.go()
    assert status == 0
    assert f"<3>{alarm.hook} was not run" in said
    assert not alarm.got.exists()


def test_a_journal_that_cannot_be_read_is_no_reason_to_be_silent(alarm: Alarm) -> None:
    """R-SD-9."""
    (alarm.directory / "journalctl").write_text("#!/bin/sh\necho 'No permission' >&2\nexit 1\n")
    alarm.make_hook(f"#!/bin/sh\ncat > {alarm.got}\n")
    status, said = alarm.go()
    assert status == 0
    assert "<3>| No permission" in said
    assert "No permission" in alarm.got.read_text()
