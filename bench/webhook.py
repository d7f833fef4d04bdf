"""The peer: Debian's `webhook` (adnanh/webhook) with one hook that checks signature and branch."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.processes import children
from tests.world import SECRET, free_port, wait_for

MISSING = "`webhook` is not installed (Debian: `apt-get install webhook`): its columns are empty."
PATH = "/hooks/deploy"


@dataclass(frozen=True)
class Peer:
    """A running one."""

    pid: int
    port: int

    def settle(self, seconds: float = 10.0) -> None:
        """Waits until the commands that it started have ended: it queues nothing and limits nothing."""
        deadline = time.monotonic() + seconds
        while children(self.pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def installed() -> bool:
    """Whether there is a peer on this machine."""
    return shutil.which("webhook") is not None


def hook(name: str, command: Sequence[str], directory: str) -> dict[str, object]:
    """What `webhook` is to do at each good push to main."""
    signed = {"type": "payload-hmac-sha256", "secret": SECRET, "parameter": _header("X-Hub-Signature-256")}
    branch = {"type": "value", "value": "refs/heads/main", "parameter": {"source": "payload", "name": "ref"}}
    return {
        "id": name, "execute-command": command[0], "command-working-directory": directory,
        "pass-arguments-to-command": [{"source": "string", "name": text} for text in command[1:]],
        "trigger-rule": {"and": [{"match": signed}, {"match": branch}]},
    }  # fmt: skip


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def a_webhook(directory: Path, command: Sequence[str]) -> Iterator[Peer]:
    """Runs `command` at each good push to main; ended with the context."""
    hooks = directory / "hooks.json"
    hooks.write_text(json.dumps([hook("deploy", command, str(directory))]))
    port = free_port()
    with (directory / "webhook.log").open("ab") as log:
        process = subprocess.Popen(
            ["webhook", "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)],
            cwd=directory, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for("webhook to listen", lambda: _answers(port))
        yield Peer(process.pid, port)
    finally:
        process.terminate()
        process.wait(10)


def _header(name: str) -> dict[str, str]:
    return {"source": "header", "name": name}
