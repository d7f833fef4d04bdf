"""Programs of this machine that an option needs: whether they are there, and how old they are."""

import shutil
import subprocess


def version_of(program: str) -> str:
    """What `program --version` says first; "" if it is not there, or does not say it. Blocks."""
    if shutil.which(program) is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").partition("\n")[0].strip()
