"""homeport's wheel and those of its locked dependencies: what a Pi without a network can be installed from."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.pi import PYTHON
from tests.meta.sources import ROOT

_TOOLS = ROOT / ".tools" / "bin"  # made by every target of the Makefile


def build_wheel(directory: Path, checkout: Path = ROOT) -> Path:
    """homeport's own, from this checkout or another one."""
    _tool("uv", "build", "--quiet", "--wheel", "--out-dir", str(directory), str(checkout))
    (wheel,) = directory.glob("homeport-*.whl")
    return wheel


def build(directory: Path) -> Path:
    """All of them in one directory, which it returns. What is only published as source is built here."""
    if sys.version_info[:2] != PYTHON:
        wanted, found = (".".join(map(str, version)) for version in (PYTHON, sys.version_info[:2]))
        pytest.fail(
            f"the Pi's Python is {wanted}, this one {found}: its wheels would not fit; `make e2e PYTHON=python{wanted}`"
        )
    locked = directory / "locked.txt"
    _tool(
        "uv", "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--output-file", str(locked)
    )
    options = ["--quiet", "--require-hashes", "--no-deps", "--requirement", str(locked)]
    _tool("python", "-m", "pip", "wheel", *options, "--wheel-dir", str(directory))
    build_wheel(directory)
    return directory


def _tool(program: str, *arguments: str) -> None:
    command: Sequence[str] = [str(_TOOLS / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-3000:]}")
