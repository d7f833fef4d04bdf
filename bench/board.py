"""A virtual Pi with an installed homeport and, beside it, Debian's `webhook` with a deploy script: one service each.

Both services are units, of one repository. Who polls and who delivers are programs in the Pi, by this machine's clock.
"""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import webhook
from bench.deploy import Poller
from tests.e2e.documented import Documented
from tests.e2e.installed import PORT, REPOSITORY
from tests.e2e.pi import Pi
from tests.world import SERVE, push_body, signed, wait_for

PEER_PORT = PORT + 1
HOOK_PORT = 9000
HEAVY = f"import time\nwhile time.process_time() < 0.4:\n    pass\n{SERVE}"
"""Busy before it listens, as a program is that imports much."""

_POLL = """
import http.client, json, sys, time
port, pause = int(sys.argv[1]), float(sys.argv[2])
while True:
    begun, version = time.perf_counter(), ""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        if answer.status == 200:
            version = json.loads(answer.read())["version"]
        connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        pass
    print(json.dumps([begun, time.perf_counter(), version]), flush=True)
    time.sleep(max(0, begun + pause - time.perf_counter()))
"""
_SEND = """
import sys, time, urllib.request
body = sys.stdin.buffer.read()
headers = dict(word.split("=", 1) for word in sys.argv[2:])
begun = time.perf_counter()
with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, headers), timeout=10) as answer:
    answer.read()
print(begun)
"""
_SCRIPT = f"""#!/bin/sh
set -e
cd /srv/peer/app
git fetch --quiet origin main
git reset --quiet --hard origin/main
if [ -n "$1" ]; then
    /srv/peer/venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
fi
systemctl restart peer
until curl --silent --fail --output /dev/null http://127.0.0.1:{PEER_PORT}/health; do sleep 0.05; done
echo x >>/srv/peer/deployed
"""
_PEER = f"""
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
User=app
WorkingDirectory=/srv/peer/app
Environment=PORT={PEER_PORT}
ExecStart=/usr/bin/python3 -S -E serve.py
"""
_PREPARE = f"""
git config --global --add safe.directory '*'
git clone --quiet {REPOSITORY} /srv/peer/app
install -d -o app /srv/peer/app/data
python3 -m venv /srv/peer/venv
systemctl daemon-reload
systemctl start peer
"""


@dataclass(frozen=True)
class Way:
    """One way to deploy: whom it serves, and where and with which headers it is told."""

    name: str
    port: int
    url: str
    settle: Callable[[], None] = field(repr=False)


class Board:
    """Everything on one Pi."""

    def __init__(self, pi: Pi, wheelhouse: Path) -> None:
        self.pi = pi
        self.app = Documented(pi)
        self.app.settings["services"]["app"]["deploy"] = {"shared": ["data"]}
        self.app.settings["services"]["app"]["source"]["poll"] = "5m"
        del self.app.settings["monitor"]
        self.app.install(wheelhouse)
        pi.put("/home/me/app/requirements.txt", "pip\n", owner="me")
        ended = self.app.deploy("v0")
        assert ended["state"] == "succeeded", ended

    def add_peer(self) -> None:
        """`webhook` with both hooks: with `pip install`, and without."""
        pi = self.pi
        program = shutil.which("webhook")
        assert program is not None
        pi.send(Path(program), to="/usr/local/bin")
        pi.put("/srv/peer/deploy.sh", _SCRIPT, mode=0o755)
        pi.put("/etc/systemd/system/peer.service", _PEER)
        pi.run("sh", "-ec", _PREPARE, timeout=120)
        hooks = [
            webhook.hook("plain", ["/srv/peer/deploy.sh", ""], "/srv/peer"),
            webhook.hook("pip", ["/srv/peer/deploy.sh", "pip"], "/srv/peer"),
        ]
        pi.put("/srv/peer/hooks.json", json.dumps(hooks))
        listening = ("-hooks", "/srv/peer/hooks.json", "-ip", "127.0.0.1", "-port", str(HOOK_PORT))
        pi.run("systemd-run", "--unit=hooks", "--setenv=HOME=/root", "/usr/local/bin/webhook", *listening)
        wait_for(
            "webhook", lambda: pi.run("curl", "-s", f"127.0.0.1:{HOOK_PORT}", check=False).returncode == 0
        )

    def ways(self) -> list[Way]:
        """The agent's, and its peers' if there are any."""
        hooks = f"http://127.0.0.1:{HOOK_PORT}/hooks"
        found = [Way("homeport", PORT, "http://127.0.0.1:8300/webhook", self._settled)]
        if webhook.installed():
            found += [
                Way("script", PEER_PORT, f"{hooks}/plain", self._script_ended),
                Way("script with pip", PEER_PORT, f"{hooks}/pip", self._script_ended),
            ]
        return found

    def deliver(self, url: str, revision: str) -> float:
        """Sends a signed push; when that began, by the clock that all programs here have."""
        body = push_body(revision, "me/app")
        headers = signed(body) | {"Content-Type": "application/json"}
        words = (f"{name}={value}" for name, value in headers.items())
        return float(self.pi.run("python3", "-c", _SEND, url, *words, given=body).stdout)

    @contextmanager
    def polling(self, port: int, pause: float) -> Iterator[Poller]:
        """Somebody who asks a service in the Pi all the time; the poller knows what he got when the block has ended,
        and with `look` meanwhile."""
        output = f"/run/poll-{secrets.token_hex(4)}"
        name = Path(output).name
        told = f"--property=StandardOutput=file:{output}"
        words = ("python3", "-c", _POLL, str(port), str(pause))
        self.pi.run("systemd-run", f"--unit={name}", told, *words)
        poller = _Remote(port, self.pi.root / output.lstrip("/"))
        try:
            wait_for("the poller", poller.look)
            yield poller
        finally:
            self.pi.run("systemctl", "stop", name)
        poller.look()

    def _settled(self) -> None:
        newest = self.app.get("/api/v1/deployments").document["items"][0]
        ended = self.app.ended(newest["id"])
        assert ended["state"] == "succeeded", ended

    def _script_ended(self) -> None:
        wait_for("the script's end", lambda: not self.pi.run("pgrep", "deploy.sh", check=False).stdout)


class _Remote(Poller):
    """A poller whose answers stand in a file."""

    def __init__(self, port: int, file: Path) -> None:
        super().__init__(port)
        self._file = file

    def look(self) -> bool:
        """Reads what there is by now; whether there is anything."""
        lines = self._file.read_text().splitlines(keepends=True) if self._file.exists() else []
        self.polls = [tuple(json.loads(line)) for line in lines if line.endswith("\n")]
        return bool(self.polls)

    def first(self, version: str) -> float | None:
        """See `Poller`."""
        self.look()
        return super().first(version)


def pause() -> None:
    """What is restarted once more would be seen."""
    time.sleep(0.5)
