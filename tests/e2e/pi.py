"""A throw-away Raspberry Pi with a real systemd, journal, reboots and power cuts: `virtual-pi.sh` as an object.

Its root disk survives a power cut; /run and /tmp do not. Only a disk of its own (`--disk`) can lose what was not
synced. The test stands outside: whatever it asks of the Pi is a command in it, run as one of its users.
"""

import fcntl
import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import pytest

from tests.e2e.sshd import needed

SCRIPT = Path(__file__).with_name("virtual-pi.sh")
SUITES = {
    # the Pi's Debian -> its own Python, and what else it is booted with
    "bookworm": ((3, 11), ()),
    "trixie": ((3, 13), ("--cgroup", "v2")),  # its systemd starts on nothing else
}
PYTHON, _BOOTED_WITH = SUITES[os.environ.get("VPI_SUITE", "bookworm")]
LIMITED = pytest.mark.skipif("v2" in _BOOTED_WITH, reason="the test machine's cgroup v2 has no controllers")
"""What takes a limit of memory, or weights, at its word."""

_PREFIX = "homeport-pi-"
_AT_HOME = 'cd "${HOME:-/}" 2>/dev/null || cd /; exec "$@"'  # where a login begins


class Pi:
    """One board. `boots` are the seconds that each boot took, with the shutdown or the cut before it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boots: list[tuple[str, float]] = []

    # --- its power

    def up(self, *options: str) -> None:
        """Makes and boots it; `virtual-pi.sh --help` tells the options."""
        self._boot("up", *_BOOTED_WITH, *options)

    def reboot(self) -> None:
        """An orderly shutdown, then a boot."""
        self._boot("reboot")

    def power_cut(self, *, lossy: bool = False) -> None:
        """Everything ends at once, then it boots. `lossy`: its disk has only what had reached it by then."""
        self._boot("power-cut", *(["--lossy"] if lossy else []))

    def freeze(self) -> None:
        """Nothing in it goes on: the instant of a cut that follows. `power_cut` itself needs a moment to begin."""
        subprocess.run(["docker", "pause", self.name], capture_output=True, check=True)

    def down(self) -> None:
        """Removes it and its disk."""
        _script("down", "--name", self.name)

    def _boot(self, command: str, *options: str) -> None:
        began = time.monotonic()
        _script(command, "--name", self.name, *options)
        self.boots.append((command, time.monotonic() - began))

    @property
    def root(self) -> Path:
        """Its file system as it is seen from here, sockets included, while it is up."""
        shown = subprocess.run(
            ["docker", "inspect", "--format={{.State.Pid}}", self.name],
            capture_output=True,
            text=True,
            check=True,
        )
        return Path(f"/proc/{shown.stdout.strip()}/root")

    # --- what happens in it

    def run(
        self,
        *command: str,
        user: str = "root",
        given: str | bytes = b"",
        check: bool = True,
        timeout: float = 180.0,
    ) -> subprocess.CompletedProcess[str]:
        """A command in it, as this user in its home directory; `given` is its input. With `check` it must succeed."""
        # Straight to docker: the script asks first whose Pi it is, which doubles the time of a short command.
        done = subprocess.run(
            ["docker", "exec", "-i", "--user", user, self.name, "sh", "-c", _AT_HOME, "sh", *command],
            input=given.encode() if isinstance(given, str) else given,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        told = subprocess.CompletedProcess(
            command,
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )
        if check and told.returncode:
            raise AssertionError(
                f"{user}: {command} ended with {told.returncode}\n{told.stdout}{told.stderr}"
            )
        return told

    def put(self, path: str, data: str | bytes, *, owner: str = "root", mode: int = 0o644) -> None:
        """A file in it, whole from its first instant, with the directories above it.

        Owner and group have the same name. polkitd reads a rule when its name appears, and not again when it
        becomes readable.
        """
        aside = f"{path}.aside"
        place = f"install -D -m {mode:o} -o {owner} -g {owner} /dev/stdin {quote(aside)}"
        self.run("sh", "-ec", f"{place} && mv -T {quote(aside)} {quote(path)}", given=data)

    def get(self, path: str) -> str:
        """What a file in it says."""
        return self.run("cat", path).stdout

    def send(self, *sources: Path, to: str) -> None:
        """Copies files and directories into a directory of it; they belong to root."""
        _script("cp", "--name", self.name, *map(str, sources), f"pi:{to}")

    def journal(self, unit: str = "", *options: str) -> str:
        """What a unit said by now, or everybody, over all boots."""
        which = ["--unit", unit] if unit else []
        # Without it a line may still be on its way: journald takes what it is told when it has time for it.
        first = 'journalctl --sync; exec journalctl --no-pager --output=short-iso "$@"'
        return self.run("sh", "-c", first, "sh", *which, *options, check=False).stdout


@contextmanager
def a_pi(*options: str) -> Iterator[Pi]:
    """A booted Pi, taken down at the end whatever happened."""
    needed("docker", "dockerd", "debootstrap", "mkfs.ext4")
    with alone("homeport-pi-image"):
        _script("build", timeout=900)  # also starts dockerd, where none answers
        _remove_orphans()
    pi = Pi(f"{_PREFIX}{os.getpid()}-{secrets.token_hex(3)}")
    try:
        pi.up(*options)
        yield pi
    finally:
        pi.down()


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Others on this machine who say the same wait meanwhile."""
    with Path(tempfile.gettempdir(), f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_orphans() -> None:
    """Those of runs that were killed: their names tell whose they were."""
    for line in _script("ls").splitlines():
        owner = re.match(rf"({_PREFIX}([0-9]+)-\w+)\s", line)
        if owner and not Path("/proc", owner[2]).exists():
            _script("down", "--name", owner[1])


def _script(*arguments: str, timeout: float = 300) -> str:
    done = subprocess.run(
        [SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise AssertionError(f"virtual-pi.sh {' '.join(arguments)}: {done.stderr[-3000:]}")
    return done.stdout
