"""homeport's wheel and those of its locked dependencies: what a Pi without a network can be installed from."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.pi import PYTHON
from tests.meta.sources import ROOT

_TOOLS = ROOT / ".tools" / "bin"  # made by every target of the Makefile


def build_wheel(directory: Path, checkout: Path = ROOT) -> Path:
    """homeport's own, from this checkout or another one."""
    _tool("uv", "build", "--quiet", "--wheel", "--out-dir", str(directory), str(checkout))
    (wheel,) = directory.glob("homeport-*.whl")
    return wheel


def build(directory: Path) -> Path:
    """All of them in one directory, which it returns, for the Pi's Python. What is only published as source is built
    here, and has no compiled part."""
    locked = directory / "locked.txt"
    _tool(
        "uv", "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--output-file", str(locked)
    )
    pip = ("python", "-m", "pip")
    options = (
        "--quiet",
        "--no-deps",
        "--dest",
        str(directory),
        "--python-version",
        ".".join(map(str, PYTHON)),
    )
    _tool(*pip, "download", *options, "--require-hashes", "--requirement", str(locked))
    for source in directory.glob("*.tar.gz"):
        _tool(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(source))
        source.unlink()
    build_wheel(directory)
    return directory


def _tool(program: str, *arguments: str) -> None:
    command: Sequence[str] = [str(_TOOLS / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-3000:]}")
