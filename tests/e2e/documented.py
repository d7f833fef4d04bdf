"""homeport as the pages tell a user to have it: `homeport install`, and a service that is a unit of its own.

On top of `installed` it can be asked from outside of the Pi within a millisecond, so that a test can wait for a state
that lasts no longer than a few of them.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.installed import CONFIG, SOCKET, Installed
from tests.world import ENDS, SECRET, Answer, push_body, signed

UNIT = "app.service"
CREDENTIALS = "/etc/homeport/credentials"
UNIT_TEXT = """
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
User=app
WorkingDirectory=/srv/app/current
Environment=PORT=9100
EnvironmentFile=-/srv/app/current/.homeport-environment
ExecStart=/usr/bin/python3 -S -E serve.py
Restart=on-failure
RestartSec=200ms
TimeoutStopSec=5
MemoryMax=64M
[Install]
WantedBy=multi-user.target
"""
LOOK_SECONDS = 0.002
_NO_HEADERS: Mapping[str, str] = {}


class Documented(Installed):
    """One installed agent with one service, `app`, whose unit is `app.service` and whose user is `app`."""

    _seen = Path("/nonexistent")

    def install(self, wheelhouse: Path) -> None:
        """As docs/install-on-a-pi.md says it; the service's first version is still to come."""
        self.install_command(wheelhouse)
        self.pi.run("homeport", "install")
        self.make_service()

    def make_service(self) -> None:
        """After a first `homeport install`."""
        pi, app = self.pi, self.settings["services"]["app"]
        self.make_repository()
        pi.run("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "app")
        pi.put(f"/etc/systemd/system/{UNIT}", UNIT_TEXT)
        pi.run("systemctl", "daemon-reload")
        pi.run("systemctl", "enable", "--quiet", UNIT)
        pi.put(f"{CREDENTIALS}/webhook-secret", SECRET, mode=0o600)
        self.settings["github"] = {"webhook_secrets": [{"credential": "webhook-secret"}]}
        app["runtime"] = {"kind": "systemd", "unit": UNIT}
        app["health"] |= {"every": "100ms", "timeout": "6s", "soak": "800ms"}
        self.save()
        pi.run("homeport", "install")

    def save(self) -> None:
        """Writes the configuration; `homeport install` has to see it if it changes what the agent may do."""
        self.pi.put(CONFIG, yaml.safe_dump(self.settings))
        self.pi.run("chgrp", "homeport", CONFIG)
        self.pi.run("chmod", "640", CONFIG)

    # --- from outside, quickly

    def ask(self, method: str, path: str, document: Any = None) -> Answer:
        """One request by the agent's socket, as root. Raises ConnectionError if no agent answers."""
        body = b"" if document is None else json.dumps(document).encode()
        with self._line() as line:
            return line(method, path, body, {"Content-Type": "application/json"} if body else {})

    def get(self, path: str) -> Answer:
        """GET."""
        return self.ask("GET", path)

    def post(self, path: str, document: Any = None) -> Answer:
        """POST of JSON."""
        return self.ask("POST", path, {} if document is None else document)

    def deliver(self, revision: str, *, body: bytes | None = None) -> Answer:
        """A signed push delivery, as GitHub sends it."""
        body = push_body(revision, "me/app") if body is None else body
        return self.send(body, signed(body))

    def send(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST to the webhook's route."""
        with self._line() as line:
            return line("POST", "/webhook", body, {"Content-Type": "application/json", **headers})

    def until(self, identity: str, state: str, seconds: float = 30.0) -> None:
        """Returns as soon as a deployment is in this state; fails if it went by."""
        deadline = time.monotonic() + seconds
        with self._line() as line:
            while (found := line("GET", f"/api/v1/deployments/{identity}").document)["state"] != state:
                if found["state"] in ENDS or time.monotonic() > deadline:
                    raise AssertionError(f"it was not seen {state}: {found}")
                time.sleep(LOOK_SECONDS)

    @contextmanager
    def _line(self) -> Iterator[Callable[..., Answer]]:
        connection = _Unix(self._socket)

        def ask(
            method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = _NO_HEADERS
        ) -> Answer:
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise ConnectionError(str(error)) from error
            return Answer(answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text)

        with closing(connection):
            yield ask

    @property
    def _socket(self) -> Path:
        """Where it is on this side; found anew after each boot."""
        if not self._seen.exists():
            self._seen = Path(f"{self.pi.root}{SOCKET}")
        return self._seen

    # --- what systemd says

    def shown(self, unit: str, *properties: str) -> list[str]:
        """The values of a unit's properties, in the order of the names."""
        told = self.pi.run("systemctl", "show", unit, f"--property={','.join(properties)}").stdout
        found = dict(line.split("=", 1) for line in told.splitlines())
        return [found[name] for name in properties]

    def invocation(self) -> str:
        """Another one with each start of the service."""
        return self.shown(UNIT, "InvocationID")[0]


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        """To the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))
