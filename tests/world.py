"""A user's whole world on loopback: a git remote, a service, a configuration, and the installed command.

Nothing here looks inside the agent: it is started as a process, asked over HTTP, signalled and killed.
"""

import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import yaml

SECRET = "a-secret-of-the-webhook-0123456789"
TOKEN = "a-token-of-the-tests-0123456789"
ENDS = {"succeeded", "failed", "rolled_back", "superseded", "broken"}

SERVE = """
import http.server, json, os, pathlib, sqlite3, sys, threading, time
here = pathlib.Path(__file__).resolve().parent
mode = (here / "mode").read_text().strip()
version = (here / "version").read_text().strip()
print("starting", version, mode, flush=True)
if mode == "crash":
    sys.exit("this version crashes at its start")
if mode == "silent":
    time.sleep(3600)
if mode == "hungry":  # bounded, for the day when nobody limits it
    hoard = [b"x" * (1 << 20) for _ in range(512)]
data = sqlite3.connect(here / "data" / "app.db")
data.execute("PRAGMA journal_mode = WAL")
data.execute("CREATE TABLE IF NOT EXISTS starts(version TEXT)")
data.execute("INSERT INTO starts VALUES(?)", (version,))
data.commit()
asked = []

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    def do_GET(self):
        if mode == "hang":
            time.sleep(3600)
        asked[1:] = [time.monotonic()]
        sick = mode == "sick" or (mode == "late" and asked[-1] - asked[0] > 0.8)  # however late it was asked first
        sick = sick or (here / "data" / ("sick-" + version)).exists()
        body = json.dumps({"version": version, "pid": os.getpid(),
                           "revision": os.environ.get("HOMEPORT_REVISION"), "environ": sorted(os.environ)}).encode()
        self.send_response(500 if sick else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer.allow_reuse_address = True
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
server.daemon_threads = True
server.serve_forever()
"""


def wait_for(what: str, look: Callable[[], Any], seconds: float = 90.0) -> Any:
    """The first true answer of `look`; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


def end_of(identity: str, ask: Callable[[str], dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Waits for the end of a deployment, asking for it by its id; the agent may be away meanwhile."""

    def look() -> dict[str, Any] | None:
        with suppress(OSError):
            found = ask(identity)
            if found.get("state") in ENDS:
                return found
        return None

    found: dict[str, Any] = wait_for(f"the end of {identity}", look, seconds)
    return found


BLOCK = 200
"""Ports that one process of tests has for itself."""


@cache
def _ports() -> Iterator[int]:
    """This process's ports, round and round. A name in the kernel says whose they are, until the process ends."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for start in range(10_000, lowest - BLOCK, BLOCK):
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):
            ours.bind(f"\0ports-of-homeports-tests-{start}")
            ours.detach()
            return cycle(range(start, start + BLOCK))
        ours.close()
    raise AssertionError("no ports are left")


def free_port() -> int:
    """A free port that stays so until it is used: the kernel gives it to nobody, and neither does another worker."""
    for port in islice(_ports(), BLOCK):
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port is taken")


def push_body(revision: str, repository: str) -> bytes:
    """What GitHub says of a push."""
    document = {
        "ref": "refs/heads/main", "before": "0" * 40, "after": revision, "created": False, "deleted": False,
        "forced": False, "repository": {"id": 1, "full_name": repository, "default_branch": "main"},
        "pusher": {"name": "me"}, "sender": {"login": "me", "id": 1}, "commits": [],
        "head_commit": {"id": revision, "message": "a message"},
    }  # fmt: skip
    return json.dumps(document).encode()


def signed(body: bytes, event: str = "push") -> dict[str, str]:
    """The headers with which GitHub sends a body, in a delivery of its own."""
    return {
        "X-GitHub-Event": event, "X-GitHub-Delivery": secrets.token_hex(16), "User-Agent": "GitHub-Hookshot/1",
        "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
    }  # fmt: skip


@dataclass
class Answer:
    """What came back over HTTP."""

    status: int
    document: Any


class Remote:
    """The repository that GitHub would host."""

    def __init__(self, directory: Path) -> None:
        self._tree = directory / "work"
        self.path = directory / "remote.git"
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
        }  # fmt: skip
        self._tree.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("init", "--quiet", "--bare", "--initial-branch=main", str(self.path))
        self._git("remote", "add", "origin", str(self.path))
        self.write("serve.py", SERVE)

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self._tree,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        """A file of the next commit."""
        (self._tree / name).parent.mkdir(parents=True, exist_ok=True)
        (self._tree / name).write_text(text)

    def commit(self, version: str, mode: str = "good", *, message: str = "", **files: str) -> str:
        """Commits and pushes a version of the service; returns the revision."""
        self.write("version", version)
        self.write("mode", mode)
        for name, text in files.items():
            self.write(name.replace("__", "."), text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "-m", message or f"{version} is {mode}")
        self._git("push", "--quiet", "--force", "origin", "main")
        return self._git("rev-parse", "HEAD")

    def tag(self, name: str, revision: str) -> None:
        """Tags a commit and pushes the tag."""
        self._git("tag", "--annotate", "-m", name, name, revision)
        self._git("push", "--quiet", "origin", f"refs/tags/{name}")

    def commit_aside(self, version: str, branch: str) -> str:
        """Commits and pushes to another branch, which begins where main is; returns the revision."""
        self._git("checkout", "--quiet", "-b", branch)
        self.write("version", version)
        self._git("commit", "--quiet", "--all", "-m", f"{version} on {branch}")
        self._git("push", "--quiet", "origin", branch)
        revision = self._git("rev-parse", "HEAD")
        self._git("checkout", "--quiet", "main")
        return revision

    def tree(self, revision: str) -> list[tuple[str, str]]:
        """The files of a revision: each one's path and its object."""
        lines = self._git("ls-tree", "-r", revision).splitlines()
        return [(line.partition("\t")[2], line.split()[2]) for line in lines]

    def reset(self, revision: str) -> None:
        """Somebody resets the branch to an earlier commit and pushes by force."""
        self._git("reset", "--quiet", "--hard", revision)
        self._git("push", "--quiet", "--force", "origin", "main")


class Home:
    """One agent with its services, as a user has them."""

    def __init__(
        self, directory: Path, names: Sequence[str] = ("app",), *, disk: Path | None = None, **service: Any
    ) -> None:
        """`disk`: where the agent's state and the services lie; the rest of the world has its own power."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.srv = (disk or directory) / "srv"
        self.socket = directory / "agent.sock"
        self.state = (disk or directory) / "state"
        self.port = free_port()
        self.remotes = {name: Remote(directory / f"git-{name}") for name in names}
        self.ports = {name: free_port() for name in names}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "agent.log"
        self.config = directory / "config.yaml"
        (directory / "secret").write_text(SECRET)
        (directory / "secret").chmod(0o600)
        self.settings = self._settings(names, service)
        self.save()

    def _settings(self, names: Sequence[str], service: dict[str, Any]) -> dict[str, Any]:
        return {
            "listen": {"port": self.port, "socket": str(self.socket)},
            "state_dir": str(self.state),
            "access": {"tokens": [{"name": "ci", "secret": {"env": "CI_TOKEN"}, "scopes": ["admin"]}]},
            "github": {"webhook_secrets": [{"file": str(self.directory / "secret")}]},
            "monitor": {"every": "200ms"},
            "services": {name: self._service(name) | service for name in names},
        }

    def _service(self, name: str) -> dict[str, Any]:
        return {
            "directory": str(self.srv / name),
            "source": {"repository": str(self.remotes[name].path), "github": f"me/{name}", "poll": "0s"},
            "deploy": {"shared": ["data"]},
            "runtime": {
                "kind": "process", "command": [sys.executable, "-S", "-E", "serve.py"],
                "environment": {"PORT": str(self.ports[name])}, "stop_timeout": "2s",
            },
            "health": {
                "restarts": 0,  # who dies stays dead: a test looks at it
                "every": "50ms", "timeout": "6s", "successes": 2, "soak": "300ms",
                "probes": [{"kind": "http", "url": f"http://127.0.0.1:{self.ports[name]}/health"}],
            },
            "backup": {"sources": [{"kind": "sqlite", "path": "shared/data/app.db"},
                                   {"kind": "files", "paths": ["shared/data"]}]},
        }  # fmt: skip

    def save(self) -> None:
        """Writes the configuration."""
        self.config.write_text(yaml.safe_dump(self.settings))

    # --- the agent as a process

    def environment(self) -> dict[str, str]:
        """Of the agent and of the command line."""
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8", "CI_TOKEN": TOKEN,
            "HOMEPORT_SOCKET": str(self.socket),
        }  # fmt: skip

    def start(
        self, *, entry: Sequence[str] = ("-m", "agent"), wait: bool = True, more: dict[str, str] | None = None
    ) -> None:
        """Starts it; waits until it answers. `more` is added to its environment."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *entry, "serve", "--config", str(self.config)],
                env=self.environment() | (more or {}), stdout=log, stderr=subprocess.STDOUT, cwd=self.directory,
            )  # fmt: skip
        if wait:
            wait_for("the agent to answer", self._answers_or_fails, 90)

    def _answers_or_fails(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the agent ended: {self.log.read_text()[-3000:]}")
        return self.answers()

    def answers(self) -> bool:
        """Whether /health does."""
        try:
            return self.get("/health").status in (200, 503)
        except OSError:
            return False

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def died(self, seconds: float = 60.0) -> int:
        """Waits until it has ended by itself."""
        assert self.process is not None
        return self.process.wait(seconds)

    def command(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The command line, as a user types it."""
        return subprocess.run(
            [sys.executable, "-m", "agent", *arguments],
            env=self.environment(), capture_output=True, text=True, timeout=timeout, cwd=self.directory, check=False,
        )  # fmt: skip

    # --- its faces

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request over TCP, with the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            sent = {"Authorization": f"Bearer {TOKEN}"} | (headers or {})
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
            try:
                connection.request(method, path, body, sent)
                answer = connection.getresponse()
                text = answer.read()
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error
        return Answer(answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text)

    def get(self, path: str) -> Answer:
        """GET."""
        return self.ask("GET", path)

    def post(self, path: str, document: Any = None) -> Answer:
        """POST of JSON."""
        return self.ask("POST", path, json.dumps({} if document is None else document).encode())

    def deliver(
        self,
        revision: str,
        *,
        name: str = "app",
        body: bytes | None = None,
        event: str = "push",
        **headers: str,
    ) -> Answer:
        """A signed push delivery, as GitHub sends it."""
        body = self.push_body(revision, name) if body is None else body
        sent = signed(body, event) | {key.replace("_", "-"): value for key, value in headers.items()}
        return self.ask("POST", "/webhook", body, sent)

    def push_body(self, revision: str, name: str = "app") -> bytes:
        """What GitHub says of a push."""
        return push_body(revision, f"me/{name}")

    def push(self, version: str, mode: str = "good", *, name: str = "app", **files: str) -> str:
        """Commits, pushes and delivers; returns the deployment's id."""
        answer = self.deliver(self.remotes[name].commit(version, mode, **files), name=name)
        assert answer.status == 202, answer
        return str(answer.document["deployments"][0]["id"])

    def deployment(self, identity: str) -> dict[str, Any]:
        """As the API tells it."""
        document: dict[str, Any] = self.get(f"/api/v1/deployments/{identity}").document
        return document

    def ended(self, identity: str, seconds: float = 120.0) -> dict[str, Any]:
        """Waits for its end."""
        return end_of(identity, self.deployment, seconds)

    def deploy(self, version: str, mode: str = "good", *, name: str = "app", **files: str) -> dict[str, Any]:
        """A push, to its end."""
        return self.ended(self.push(version, mode, name=name, **files))

    # --- the service, asked as its own users do

    def service(self, name: str = "app") -> dict[str, Any] | None:
        """What it answers, or None."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=20)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            answer = connection.getresponse()
            if answer.status == 200:
                document: dict[str, Any] = json.loads(answer.read())
                return document
        return None

    def starts(self, name: str = "app") -> list[str]:
        """Which versions wrote into the shared database, in order."""
        path = self.srv / name / "shared" / "data" / "app.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return [row[0] for row in connection.execute("SELECT version FROM starts")]

    def current(self, name: str = "app") -> str:
        """Which release `current` names."""
        return (self.srv / name / "current").readlink().name

    def end(self) -> None:
        """Ends the agent and every service that it started."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for session in self.sessions():
            with suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)
        shutil.rmtree(self.state / "ballast", ignore_errors=True)  # pytest keeps directories for a while

    def sessions(self) -> set[int]:
        """Sessions of living processes whose directory lies in this home: what was started from here."""
        places = (self.directory.resolve(), self.srv.resolve())
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or (self.process and int(entry.name) == self.process.pid):
                continue
            with suppress(OSError, ValueError):
                inside = any((entry / "cwd").readlink().is_relative_to(place) for place in places)
                state, _, _, session = (entry / "stat").read_text().rpartition(") ")[2].split()[:4]
                if inside and state != "Z" and int(session) != os.getsid(0):
                    found.add(int(session))
        return found


@contextmanager
def a_home(directory: Path, names: Sequence[str] = ("app",), **service: Any) -> Iterator[Home]:
    """A home that leaves nothing running."""
    home = Home(directory, names, **service)
    try:
        yield home
    finally:
        home.end()
