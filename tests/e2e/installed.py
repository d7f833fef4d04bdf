"""homeport as a user has it on a Pi: installed from its wheel, under systemd, with a repository to push to.

Nothing here looks inside the agent: it is started by its unit, asked over HTTP in the Pi, and loses its power. The
installation is done by hand, step by step; units are the tests' own matter (`enable`).
"""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.pi import Pi
from tests.world import SECRET, SERVE, Answer, end_of, push_body, signed, wait_for

OWNER = "me"
"""Who pushes: an ordinary user of the Pi."""

CONFIG = "/etc/homeport/config.yaml"
SOCKET = "/run/homeport/agent.sock"
STATE = "/var/lib/homeport"
REPOSITORY = "/var/lib/git/app.git"
PORT = 9100
"""Where the service `app` answers."""

_COMMAND = """
python3 -m venv /opt/homeport
/opt/homeport/bin/pip install --quiet --no-index --find-links "$1" homeport
/opt/homeport/bin/pip check
ln -s /opt/homeport/bin/homeport /usr/local/bin/homeport
"""
_PLACES = f"""
useradd --system --user-group --home-dir {STATE} --shell /usr/sbin/nologin homeport
install -d -o homeport -g homeport -m 750 {STATE}
install -d -o homeport -g homeport /srv/app
"""
# git reads a repository on this machine only for whoever owns it, and that is the agent's user; others push by group
_GROUP = f"""
groupadd --users {OWNER},homeport git
install -d -o homeport -g git -m 2775 {REPOSITORY}
"""
_REPOSITORY = f"""
git config --global user.name me
git config --global user.email me@example.org
git config --global safe.directory {REPOSITORY}
git init --quiet --bare --initial-branch=main --shared=group {REPOSITORY}
git clone --quiet {REPOSITORY} ~/app 2>/dev/null
cat > ~/app/serve.py
"""
_COMMIT = """
cd ~/app
printf %s "$1" > version
printf %s "$2" > mode
git add --all
git commit --quiet --allow-empty -m "$1 is $2"
git push --quiet origin main
git rev-parse HEAD
"""
_STARTS = """
import sqlite3
with sqlite3.connect("/srv/app/shared/data/app.db") as data:
    print(*(row[0] for row in data.execute("SELECT version FROM starts")))
"""
_WATCH = f"""
import http.client, time
while True:
    asked = time.monotonic()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", {PORT}, timeout=5)
        connection.request("GET", "/health")
        said = connection.getresponse().status
        connection.close()
    except OSError as error:
        said = error
    print(said, flush=True)
    time.sleep(max(0, asked + 0.05 - time.monotonic()))
"""


class Installed:
    """One installed agent with one service, `app`. `settings` is its configuration; `save` writes it."""

    def __init__(self, pi: Pi) -> None:
        self.pi = pi
        self.settings: dict[str, Any] = {
            "github": {"webhook_secrets": [{"file": "/etc/homeport/webhook-secret"}]},
            "monitor": {"every": "1s"},
            "services": {"app": _service()},
        }

    def install(self, wheelhouse: Path) -> None:
        """All that stands below, by hand, and the configuration."""
        self.install_command(wheelhouse)
        self.make_places()
        self.make_repository()
        self.save()

    def install_command(self, wheelhouse: Path) -> None:
        """The command alone, for everybody; and an ordinary user."""
        self.pi.run("useradd", "--create-home", "--shell", "/bin/bash", OWNER)
        self.pi.send(wheelhouse, to="/tmp")
        self.pi.run("sh", "-ec", _COMMAND, "sh", f"/tmp/{wheelhouse.name}", timeout=400)

    def make_places(self) -> None:
        """The agent's user, its directories and the webhook's secret."""
        self.pi.run("sh", "-ec", _PLACES)
        self.pi.put("/etc/homeport/webhook-secret", SECRET, owner="homeport", mode=0o600)

    def make_repository(self) -> None:
        """What the ordinary user pushes to; the agent's user must be there."""
        self.pi.run("sh", "-ec", _GROUP)
        self.pi.run("sh", "-ec", _REPOSITORY, user=OWNER, given=SERVE)

    def save(self) -> None:
        """Writes the configuration."""
        self.pi.put(CONFIG, yaml.safe_dump(self.settings), owner="homeport", mode=0o640)

    def enable(self, unit: str, name: str = "homeport.service") -> None:
        """A unit that starts now and at each boot; returns when it is active."""
        self.pi.put(f"/etc/systemd/system/{name}", unit)
        self.pi.run("systemctl", "daemon-reload")
        self.pi.run("systemctl", "enable", "--quiet", "--now", name)

    # --- a push, from the commit to its end

    def commit(self, version: str, mode: str = "good", **files: str) -> str:
        """Commits and pushes a version of the service (see `tests.world.SERVE`); returns the revision."""
        for name, text in files.items():
            self.pi.put(f"/home/{OWNER}/app/{name.replace('__', '.')}", text, owner=OWNER)
        return self.pi.run("sh", "-ec", _COMMIT, "sh", version, mode, user=OWNER).stdout.strip()

    def deliver(self, revision: str, *, body: bytes | None = None) -> Answer:
        """A signed push delivery, as GitHub sends it."""
        body = push_body(revision, "me/app") if body is None else body
        sent = signed(body) | {"Content-Type": "application/json"}
        headers = [part for name, value in sent.items() for part in ("--header", f"{name}: {value}")]
        return self._curl("http://127.0.0.1:8300/webhook", *headers, "--data-binary", "@-", given=body)

    def push(self, version: str, mode: str = "good", **files: str) -> str:
        """Commits, pushes and delivers; returns the deployment's id."""
        answer = self.deliver(self.commit(version, mode, **files))
        assert answer.status == 202, answer
        return str(answer.document["deployments"][0]["id"])

    def ended(self, identity: str, seconds: float = 60.0) -> dict[str, Any]:
        """Waits for the end of a deployment; the agent may be away meanwhile."""
        return end_of(identity, self.deployment, seconds)

    def deploy(self, version: str, mode: str = "good", **files: str) -> dict[str, Any]:
        """A push, to its end."""
        return self.ended(self.push(version, mode, **files))

    # --- its faces

    def get(self, path: str) -> Answer:
        """GET by the socket, as root. Raises ConnectionError if no agent answers."""
        return self._curl(f"http://localhost{path}", "--unix-socket", SOCKET)

    def deployment(self, identity: str) -> dict[str, Any]:
        """As the API tells it."""
        document: dict[str, Any] = self.get(f"/api/v1/deployments/{identity}").document
        return document

    def health(self) -> str:
        """The word of /health, which is open to everybody; `away` if no agent answers."""
        with suppress(ConnectionError):
            return str(self._curl("http://127.0.0.1:8300/health").document["status"])
        return "away"

    def healthy(self, seconds: float = 60.0) -> float:
        """Waits until agent and service are; returns how many seconds that took."""
        began = time.monotonic()
        wait_for("a healthy agent", lambda: self.health() == "healthy" and self.service(), seconds)
        return time.monotonic() - began

    def service(self) -> dict[str, Any] | None:
        """What the service answers, or None."""
        with suppress(ConnectionError):
            answer = self._curl(f"http://127.0.0.1:{PORT}/health")
            if answer.status == 200:
                document: dict[str, Any] = answer.document
                return document
        return None

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Asks the service 20 times a second meanwhile; afterwards the list has what it answered."""
        seen: list[str] = []
        output = f"/run/watch-{secrets.token_hex(4)}"
        unit = Path(output).name
        self.pi.run(
            "systemd-run",
            f"--unit={unit}",
            f"--property=StandardOutput=file:{output}",
            "python3",
            "-c",
            _WATCH,
        )
        try:
            yield seen
        finally:
            self.pi.run("systemctl", "stop", unit)
        seen += self.pi.get(output).splitlines()

    def starts(self) -> list[str]:
        """Which versions wrote into the shared database, in order."""
        return self.pi.run("python3", "-c", _STARTS, user="homeport").stdout.split()

    def _curl(self, url: str, *options: str, given: bytes = b"") -> Answer:
        shown = ("--write-out", r"\n%{http_code}")
        command = ("curl", "--silent", "--show-error", "--max-time", "10", *shown, *options, url)
        done = self.pi.run(*command, given=given, check=False)
        text, _, status = done.stdout.rpartition("\n")
        if done.returncode:
            raise ConnectionError(done.stderr)
        return Answer(int(status), json.loads(text) if text[:1] in ("{", "[") else text)


def _service() -> dict[str, Any]:
    return {
        "source": {"repository": REPOSITORY, "github": "me/app", "poll": "0s"},
        "deploy": {"shared": ["data"]},
        "runtime": {
            "kind": "process", "command": ["/usr/bin/python3", "-S", "-E", "serve.py"],
            "environment": {"PORT": str(PORT)}, "stop_timeout": "2s",
        },
        "health": {
            "every": "200ms", "timeout": "20s", "successes": 2, "soak": "1s",
            "probes": [{"kind": "http", "url": f"http://127.0.0.1:{PORT}/health"}],
        },
    }  # fmt: skip
