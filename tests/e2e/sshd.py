"""A real sshd on a loopback port, with its own configuration, host key and list of who may come in."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.world import free_port

SSHD = "/usr/sbin/sshd"


def a_key(place: Path, *options: str) -> Path:
    """A private key without a passphrase; the public one beside it."""
    subprocess.run(
        ["ssh-keygen", "-q", *(options or ("-t", "ed25519")), "-N", "", "-C", "", "-f", place], check=True
    )
    return place


def public(key: Path) -> str:
    """As it stands in known_hosts and in `source.host_keys`."""
    return key.with_name(key.name + ".pub").read_text().strip()


class Sshd:
    """One host. Passwords would be taken, too: who is asked for one shows it by waiting."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.host_key = a_key(directory / "host_key")
        self.authorized = directory / "authorized_keys"
        self.authorized.write_text("")
        self.port = free_port()
        self._config = directory / "sshd_config"
        self._log = directory / "log"
        self._directory = directory

    def admit(self, key: Path) -> None:
        """Whoever has this key may come in."""
        with self.authorized.open("a") as file:
            file.write(public(key) + "\n")

    def new_host_key(self) -> None:
        """The host shows another key from now on."""
        self.host_key.rename(self.host_key.with_name("old_key"))
        self.host_key.with_name("host_key.pub").rename(self.host_key.with_name("old_key.pub"))
        a_key(self.host_key)

    def log(self) -> str:
        """What sshd said."""
        return self._log.read_text() if self._log.exists() else ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """It takes connections, until the end."""
        self._config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.host_key}\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.authorized}\nPermitRootLogin yes\nPasswordAuthentication yes\nLogLevel VERBOSE\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)  # its own room, which only its unit would make
        process = subprocess.Popen([SSHD, "-D", "-f", self._config, "-E", self._log])
        try:
            self._wait()
            yield
        finally:
            process.terminate()
            process.wait()

    def _wait(self) -> None:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail(f"sshd does not answer: {self.log()}")


def needed(*programs: str) -> None:
    """Fails where a program is missing that `make e2e` installs."""
    missing = [
        name for name in programs if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    if missing or os.geteuid() != 0:
        pytest.fail(f"needs root and {', '.join(programs)}: `make e2e` installs what is missing")
