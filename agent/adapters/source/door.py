"""What lets the agent into a repository: a deploy key, a token, and the host keys that prove whose repository it is.

A token is seen by nobody (R-GIT-11): git is told to ask a helper that reads an inherited descriptor, which holds the
token in memory only. It stands in no argument, variable, file or address. The helper is asked for the repository's own
host alone: a redirect elsewhere gets nothing.
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.core import settings
from agent.core.errors import ConfigError, StepFailed
from agent.core.ports import Secrets
from agent.core.repository import host_of
from agent.core.waysin import known_hosts
from agent.system import files

_SSH = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10", "ServerAliveInterval=10", "ForwardAgent=no",
    "ClearAllForwardings=yes", "PermitLocalCommand=no",
    "ControlPath=none",  # a connection that the user's own ssh keeps open was let in by other keys
)  # fmt: skip
USER = "x-access-token"
"""The user's name beside a token: GitHub's own; GitLab, Gitea and Forgejo take any."""


@dataclass(frozen=True)
class Pass:
    """What one call of git gets along: its options (`-c`), and descriptors that its helpers inherit."""

    options: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()


class Door:
    """The way into one service's repository. `directory` is the service's."""

    def __init__(self, options: settings.Source, directory: Path, secrets: Secrets) -> None:
        self._options = options
        self._known_hosts = directory / "known_hosts"
        self._secrets = secrets

    def prepare(self) -> None:
        """Looks at the key and writes the pinned host keys. Blocks. Raises key-unusable, git-refused, OSError.

        A poll may come to the door together with a fetch: a file appears whole, and both write the same."""
        options = self._options
        if options.key is not None:
            self._key_file(options.key)
        if options.token is not None and not self._token(options.token).isascii():
            raise StepFailed("git-refused", "the token of `source.token` holds bytes that no token has")
        if options.host_keys:
            lines = known_hosts(options.repository, options.host_keys).encode()
            if not self._known_hosts.exists() or self._known_hosts.read_bytes() != lines:
                self._known_hosts.parent.mkdir(parents=True, exist_ok=True)
                files.write_atomic(self._known_hosts, lines)

    def ssh_command(self) -> str:
        """What git runs for ssh; git hands it to a shell."""
        options = list(_SSH)
        if self._options.key is not None:
            # only this key: whatever else the user has would be shown to the host, and counts as a failed attempt
            key = self._key_file(self._options.key)
            options += ["IdentitiesOnly=yes", "IdentityAgent=none", f"IdentityFile={_as_ssh_reads(key)}"]
        if self._options.host_keys:
            pinned = _as_ssh_reads(self._known_hosts)
            options += [f"UserKnownHostsFile={pinned}", "GlobalKnownHostsFile=/dev/null"]
            options += ["UpdateHostKeys=no", "CheckHostIP=no"]
        return shlex.join(["ssh", *(f"-o{option}" for option in options)])

    @contextmanager
    def open(self, remote: bool) -> Iterator[Pass]:
        """The token, for as long as it takes to start a program with it; nothing for who speaks to no remote."""
        if self._options.token is None or not remote:
            yield Pass()
            return
        held = os.memfd_create("git")
        try:
            os.write(held, b"username=%s\npassword=%s\n" % (USER.encode(), self._token(self._options.token)))
            host, port = host_of(self._options.repository)
            place = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
            # through /proc it is opened anew, so that each reader begins at its beginning
            helper = f"credential.{place}.helper=!cat /proc/self/fd/{held} #"
            yield Pass((helper,), (held,))
        finally:
            os.close(held)

    def _key_file(self, reference: settings.KeyRef) -> Path:
        try:
            return self._secrets.key_file(reference)
        except ConfigError as error:
            raise StepFailed("key-unusable", error.problems[0].message) from error

    def _token(self, reference: settings.SecretRef) -> bytes:
        try:
            token = self._secrets.get(reference)
        except ConfigError as error:
            raise StepFailed("git-refused", error.problems[0].message) from error
        if any(byte in token for byte in b"\n\r\0"):
            raise StepFailed("git-refused", "the token of `source.token` is more than one line")
        return token


def _as_ssh_reads(path: Path) -> str:
    """A file's name as the value of an option: in quotes, and `%` would begin a token of ssh_config(5)."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
