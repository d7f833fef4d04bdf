"""Programs of the system that a command of ours runs and waits for, one after the other."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.system.environment import PATH

NOT_THERE = 127


@dataclass(frozen=True)
class Done:
    """The exit status, and everything that was printed."""

    status: int
    text: str


def run(
    *argv: str,
    patience: float = 60.0,
    given: str | None = None,
    environ: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Done:
    """Runs it to its end, in English. What is not there ends with 127, as in a shell; what takes too long, with 124.
    `environ` is added to the little that it sees of ours; with `user` it runs as that user, and in its group alone.
    Raises KeyError if there is no such user."""
    try:
        done = subprocess.run(
            argv, env={**(environ or {}), "PATH": PATH, "LC_ALL": "C", "SYSTEMD_PAGER": ""}, timeout=patience,
            check=False, cwd="/",
            user=user, group=user, extra_groups=None if user is None else (), umask=-1 if user is None else 0o077,
            input=given, stdin=None if given is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,  # what runs as another user must not have root's terminal to type into
        )  # fmt: skip
    except OSError as error:
        return Done(NOT_THERE, f"{argv[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Done(124, f"{' '.join(argv)} has not ended after {patience:.0f} s")
    return Done(done.returncode, done.stdout.strip())


def properties(unit: str, names: Sequence[str]) -> dict[str, str]:
    """A unit's properties by `systemctl show`; empty where systemd does not answer."""
    done = run("systemctl", "show", f"--property={','.join(names)}", "--", unit)
    return (
        dict(line.split("=", 1) for line in done.text.splitlines() if "=" in line) if not done.status else {}
    )
