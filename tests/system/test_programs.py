"""What programs say of themselves."""

from pathlib import Path

import pytest

from agent.system.programs import version_of


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "program"


def says(program: Path, script: str) -> str:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return version_of("program")


def test_the_first_line_of_what_it_says_counts(program: Path) -> None:
    assert says(program, 'echo "$1 is 1.2"; echo more') == "--version is 1.2"
    assert says(program, "echo complaint >&2; exit 1") == ""


def test_what_is_not_there_or_does_not_run_says_nothing(program: Path) -> None:
    assert version_of("program") == ""
    program.write_text("no program")
    program.chmod(0o755)
    assert version_of("program") == ""
