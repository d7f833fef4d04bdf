"""Every secret that the configuration can name goes in, in every way in which it can be named; none comes out.

The agent is a process. What it deploys repeats the secrets wherever it can: a build prints them in many forms, a
service, a probe and a git host send back what they were sent, a defect raises an error that holds them. Then all that
the agent wrote, answered, printed and handed to its children is searched.
"""

import base64
import io
import json
import re
import secrets
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import quote, quote_plus

import pytest
from backports import zstd
from msgspec import Struct
from msgspec.structs import fields

from agent.adapters.marker import NAME as MARKER
from agent.cli import main
from agent.core.settings import KeyRef, SecretRef, Settings
from agent.web.hooks import Webhook
from agent.web.server import routes
from tests.githost import make_ca
from tests.world import SECRET, SERVE, TOKEN, Home, wait_for

pytestmark = pytest.mark.outside

USED = {
    "access.tokens[].secret": "TOKEN (env) calls the API; another one (file) logs a browser in",
    "github.webhook_secrets[]": "SECRET (file) signs; an older one (credential) with letters that must be escaped",
    "services.*.source.key": "of `keyed`, whose ssh prints it",
    "services.*.source.token": "of `web`, whose host sends it back in its refusal (credential)",
    "services.*.health.probes[].bearer": "of `app`, which sends back what it is asked with (env)",
}
"""Every place at which a secret can stand, and what this test does with it there."""

BOOM = """
import pathlib, sys
from agent.core import triggers
really = triggers.decide

def decide(said, services):
    if said.ref == "refs/heads/boom":
        raise RuntimeError("a defect beside " + pathlib.Path(sys.path[0], "spill").read_text())
    return really(said, services)

triggers.decide = decide
if "serve" in sys.argv:
    sys.argv += ["--log-level", "DEBUG"]
from agent.__main__ import main
sys.exit(main())
"""
ECHO = SERVE.replace('{"version": version,', '{"asked": dict(self.headers), "version": version,')


def places(kind: Any, here: str = "") -> Iterator[str]:
    """Where in the configuration a type is, or holds, a reference to a secret or a key."""
    if kind in (SecretRef, KeyRef):
        yield here
    elif isinstance(kind, type) and issubclass(kind, Struct):
        for option in fields(kind):
            yield from places(option.type, f"{here}.{option.encode_name}".strip("."))
    elif get_origin(kind) in (tuple, list):
        yield from places(get_args(kind)[0], f"{here}[]")
    elif get_origin(kind) is dict:
        yield from places(get_args(kind)[1], f"{here}.*")
    elif get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            yield from places(part, here)
    elif get_origin(kind) is Annotated:
        yield from places(get_args(kind)[0], here)


def test_every_secret_of_the_configuration_has_a_canary() -> None:
    """R-RX-31: a new option that refers to a secret fails here until it is used below."""
    assert set(places(Settings)) == set(USED)


# --- canaries


def a_canary(extra: str = "") -> str:
    """A secret; its letters and digits are found in any form that only escapes the others."""
    return f"{extra}{secrets.token_hex(12)}{extra}"


def forms(secret: str) -> Iterator[str]:
    """As programs print it."""
    raw = secret.encode()
    yield from (
        secret,
        quote(raw, safe=""),
        quote_plus(raw),
        raw.hex(),
        raw.hex().upper(),
        repr(secret),
        repr(raw),
    )
    yield from (
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        json.dumps([secret]).replace("/", "\\/"),
    )
    for before in ("", "x-access-token:", "Bearer ", "a"):
        for after in ("", "\n", "ab"):
            encoded = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
            yield from (
                encoded,
                encoded.rstrip("="),
                base64.urlsafe_b64encode(f"{before}{secret}{after}".encode()).decode(),
            )
    yield base64.encodebytes(raw).decode()


def needles(core: str) -> set[bytes]:
    """What would show that this part of a secret got out, in plain, hex or base64."""
    raw = core.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)[4:-4]
        found |= {encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")}
    return found


@dataclass
class Canaries:
    """Secrets by name, and what is searched for."""

    known: dict[str, str] = field(default_factory=dict)
    key: str = ""

    def new(self, name: str, extra: str = "") -> str:
        self.known[name] = a_canary(extra)
        return self.known[name]

    def needles(self) -> dict[bytes, str]:
        found: dict[bytes, str] = {}
        for name, secret in self.known.items():
            core = max(re.findall(r"[A-Za-z0-9-]{12,}", secret), key=len)
            found |= dict.fromkeys(needles(core), name)
        for line in self.key.splitlines()[3:-2]:  # what is before is the same in every key, or public
            for part in re.findall(r"[A-Za-z0-9]{16,}", line):
                found |= dict.fromkeys(needles(part), "the deploy key")
        return found

    def spill(self) -> str:
        """All of it in all forms."""
        every = [form for secret in self.known.values() for form in forms(secret)]
        return (
            "\n".join(
                [*every, self.key, base64.encodebytes(self.key.encode()).decode(), json.dumps(self.key)]
            )
            + "\n"
        )


# --- a host that sends back what it was sent


def a_packet(text: str) -> bytes:
    return b"%04x%s" % (len(text.encode()) + 4, text.encode())


class EchoingHost(BaseHTTPRequestHandler):
    """A git host over https that refuses everybody and repeats what let them in."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        if not given:
            return self._say(401, b"")
        told = base64.b64decode(given.removeprefix("Basic ")).decode()
        sent = f"ERR you sent {told} as {given}; {quote(told)}"
        return self._say(200, a_packet("# service=git-upload-pack\n") + b"0000" + a_packet(sent))

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def echoing(tmp_path: Path) -> Iterator[str]:
    """Its address; the certificate is `tls.crt`."""
    make_ca(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), EchoingHost)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/web.git"
    server.shutdown()
    thread.join()
    server.server_close()


# --- who sees what


def everybody() -> set[str]:
    return {entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal()}


class Watch:
    """Looks at the arguments and the environment of everything that lives in a home, but the agent and `homeport`."""

    def __init__(self, home: Path, wanted: dict[bytes, str]) -> None:
        self._home, self._wanted = home, wanted
        self._others = everybody()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: set[str] = set()
        self.leaks: set[str] = set()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.03):
            for name in everybody() - self._others:
                with suppress(OSError):
                    self._look(Path("/proc", name))

    def _look(self, entry: Path) -> None:
        # Before it calls exec a child is its parent: it is the words that are read first, and `env` is what takes the
        # agent's variables away from git.
        words, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        if f"HOME={self._home}".encode() not in environment or b"homeport" in words.split(b"\0")[0]:
            return
        # GitPython asks for git's version when it is imported, as the agent itself.
        ours = words.startswith(b"env\0") or words == b"git\0version\0"
        if b"/boom.py" in words or ours or not words:
            return
        self.seen.add(Path(words.split(b"\0")[0].decode()).name)
        for needle, name in self._wanted.items():
            if needle in environment + words:
                self.leaks.add(f"{name}: {words!r}")


@dataclass
class Collected:
    """What came out, by where it came from."""

    texts: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, content: bytes | str) -> None:
        self.texts[f"{len(self.texts)} {name}"] = content if isinstance(content, bytes) else content.encode()

    def command(self, home: Home, *words: str) -> int:
        """The command line, in this process: starting one for each takes longer than all the rest. Its status."""
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            status = main.run(["--socket", str(home.socket), *words])
        self.add(f"homeport {' '.join(words)[:60]}", printed.getvalue())
        return status

    def leaks(self, wanted: dict[bytes, str]) -> list[str]:
        return [
            f"{secret} in {name}: ...{content[max(0, content.index(needle) - 80) :][:240]!r}"
            for name, content in self.texts.items()
            for needle, secret in wanted.items()
            if needle in content
        ]


# --- the scene


@dataclass
class Scene:
    home: Home
    canaries: Canaries
    more: dict[str, str]
    out: Collected = field(default_factory=Collected)


@pytest.fixture
def scene(
    make_home: Callable[..., Home], tmp_path: Path, echoing: str, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    """Three services: `app` is deployed, `web` and `keyed` cannot be fetched."""
    home = make_home("app")
    canaries = Canaries({"the signing secret": SECRET, "the caller's token": TOKEN})
    credentials, programs = tmp_path / "credentials", tmp_path / "programs"
    for directory in (credentials, programs):
        directory.mkdir()
    place(credentials / "old-secret", canaries.new("the older secret", "é\"<&'/+\\ "))
    place(credentials / "git-token", canaries.new("the git token", "_-."))
    place(home.directory / "browser", canaries.new("the browser's token", "~/+"))
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", tmp_path / "key"], check=True
    )
    canaries.key = (tmp_path / "key").read_text()
    program = programs / "ssh"
    program.write_text(
        f'#!/bin/sh\ncat {tmp_path / "key"} >&2\necho "fatal: $(base64 -w0 {tmp_path / "key"})" >&2\nexit 255\n'
    )
    program.chmod(0o755)
    more = {
        "CREDENTIALS_DIRECTORY": str(credentials), "PROBE_BEARER": canaries.new("the probe's bearer"),
        "PATH": f"{programs}:{home.environment()['PATH']}", "GIT_SSL_CAINFO": str(tmp_path / "tls.crt"),
        "A_SECRET_OF_NOBODY": "of-nobody-" + secrets.token_hex(8),
    }  # fmt: skip
    for name in ("CREDENTIALS_DIRECTORY", "PROBE_BEARER"):
        monkeypatch.setenv(name, more[name])  # for `homeport check`
    monkeypatch.setenv("CI_TOKEN", TOKEN)
    settings, app = home.settings, home.settings["services"]["app"]
    settings["access"]["tokens"].append({"name": "me", "secret": {"file": "browser"}, "scopes": ["admin"]})
    settings["github"]["webhook_secrets"].append({"credential": "old-secret"})
    spill = home.directory / "spill"
    app["deploy"]["build"] = {
        "commands": [f"cat {spill}; cat {tmp_path / 'key'}; test $(cat mode) != unbuilt"]
    }
    app["runtime"]["command"] = ["/bin/sh", "-c", f"cat {spill}; exec python3 -S -E serve.py"]
    app["health"]["probes"][0]["bearer"] = {"env": "PROBE_BEARER"}
    app["health"]["probes"].append(
        {"kind": "command", "command": f"test $(cat mode) = good || {{ cat {spill}; exit 1; }}"}
    )
    runtime = {"kind": "process", "command": ["true"]}
    settings["services"]["web"] = {
        "directory": str(home.srv / "web"), "runtime": runtime,
        "source": {"repository": echoing, "token": {"credential": "git-token"}, "poll": "0s"},
    }  # fmt: skip
    settings["services"]["keyed"] = {
        "directory": str(home.srv / "keyed"), "runtime": runtime,
        "source": {"repository": "ssh://git@127.0.0.1/x.git", "key": {"file": str(tmp_path / "key")}, "poll": "0s"},
    }  # fmt: skip
    home.save()
    place(spill, canaries.spill())
    (home.directory / "boom.py").write_text(BOOM)
    home.remotes["app"].write("serve.py", ECHO)
    return Scene(home, canaries, more)


def place(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def deploy(scene: Scene) -> None:
    """A good deployment, one that does not build, one that is rolled back; and two that cannot be fetched."""
    home, out = scene.home, scene.out
    good = home.deploy("v1")
    assert good["state"] == "succeeded", good
    assert home.deploy("v2", "unbuilt")["reason"] == "build-failed"
    assert home.deploy("v3", "sick")["state"] == "rolled_back"
    assert home.deploy("v4")["state"] == "succeeded"
    for name in ("web", "keyed"):
        answer = home.post("/deploy", {"service": name})
        assert home.ended(answer.document["deployment"]["id"], seconds=150)["state"] == "failed"
    assert out.command(home, "rollback", "app", "--wait") == 0
    for word in ("create", "drill"):
        assert out.command(home, "backup", word, "app") == 0
    (made, *_) = home.get("/api/v1/backups").document["items"]
    out.command(home, "backup", "verify", made["id"])
    out.command(home, "backup", "restore", made["id"], "--dry-run")


def be_refused(scene: Scene) -> None:
    """Requests with secrets where they do not belong, and a defect with all of them in its message."""
    home, out = scene.home, scene.out
    wrong = {"X-Hub-Signature-256": f"sha256={SECRET}"}
    out.add("wrong signature", repr(home.ask("POST", "/webhook", b"{}", wrong)))
    out.add("wrong token", repr(home.ask("GET", "/status", headers={"Authorization": f"Bearer {TOKEN}x"})))
    for body in ({"token": TOKEN + "x"}, {"tokens": TOKEN}, {"token": [TOKEN]}, TOKEN):
        out.add("login", repr(home.post("/api/v1/session", body)))
    out.add("deploy", repr(home.post("/deploy", {"service": TOKEN})))
    out.add("query", repr(home.get(f"/api/v1/events?limit={TOKEN}")))
    body = json.loads(home.push_body("a" * 40)) | {"ref": "refs/heads/boom"}
    boom = home.deliver("a" * 40, body=json.dumps(body).encode())
    assert (boom.status, boom.document["code"]) == (500, "internal")
    out.add("a defect", repr(boom))


def reload(scene: Scene) -> None:
    """A good file, and one with the secrets themselves where their references belong."""
    home, out = scene.home, scene.out
    home.settings["monitor"] = {"every": "300ms"}
    home.save()
    assert out.command(home, "reload") == 0
    right = home.config.read_text()
    wrong = [SECRET, {"env": SECRET}, {"file": str(home.directory / "browser")}]
    home.settings["github"]["webhook_secrets"] = [
        *wrong,
        {"file": scene.canaries.known["the browser's token"]},
    ]
    home.settings["access"]["tokens"][0]["secret"] = TOKEN
    home.settings["services"]["web"]["source"]["token"] = scene.canaries.known["the git token"]
    home.settings["services"]["web"]["source"]["repository"] = f"https://x:{TOKEN}@127.0.0.1/x.git"
    home.save()
    for words in (
        ("reload",),
        ("reload", "--json"),
        ("check", str(home.config)),
        ("check", str(home.config), "--json"),
    ):
        assert out.command(home, *words) == 78
    home.config.write_text(right)
    assert out.command(home, "reload") == 0


def ask_everything(scene: Scene) -> None:
    """All routes and commands that only read, while the last deployments are there to be told of."""
    home, out = scene.home, scene.out
    ids = {kind: [item["id"] for item in home.get(f"/api/v1/{kind}?limit=200").document["items"]]
           for kind in ("deployments", "deliveries", "backups")}  # fmt: skip
    paths = [route.path for route in routes(Webhook.__new__(Webhook)) if route.method == "GET"]
    for path in paths:
        for identity in ids.get(path.split("/")[3], []) if "{id}" in path else [""]:
            for name in ("app", "web", "keyed") if "{name}" in path else [""]:
                filled = path.replace("{id}", identity).replace("{name}", name)
                answer = home.ask("GET", filled, headers={"Accept": "text/html" if path == "/" else "*/*"})
                assert answer.status < 500, (filled, answer)
                told = answer.document
                out.add(
                    f"GET {filled}", told if isinstance(told, bytes) else json.dumps(told, ensure_ascii=False)
                )
    for words in (
        ("status",),
        ("history",),
        ("deliveries", "list"),
        ("backup", "list"),
        ("schema",),
        ("check", str(home.config)),
    ):
        for more in ((), ("--json",)):
            out.command(home, *words, *more)
    for identity in ids["deployments"]:
        out.command(home, "logs", identity)


def read_everything(scene: Scene) -> None:
    """The log, and every file that is the agent's own: not what the services print into their files, nor their data."""
    home, out = scene.home, scene.out
    out.add("agent.log", home.log.read_bytes())
    for path in sorted(home.state.rglob("*")):
        inside = path.relative_to(home.state).as_posix()
        if path.is_file() and not re.fullmatch(r"run/[^/]+/output(\.1)?", inside):
            content = path.read_bytes()
            out.add(inside, content)
            if path.suffix == ".zst":
                out.add(f"{inside}, unpacked", zstd.decompress(content))
    for pattern in ("*/mirror.git/config", f"*/releases/*/{MARKER}", "*/known_hosts"):
        for path in home.srv.glob(pattern):
            out.add(str(path.relative_to(home.srv)), path.read_bytes())


@pytest.mark.timeout(900)
def test_no_secret_comes_out_of_a_real_agent(scene: Scene) -> None:
    """R-RX-31, R-SD-4, R-BK-13, R-MO-5, R-GIT-11: of three services, five kinds of secrets, and all forms of them."""
    home, wanted = scene.home, scene.canaries.needles()
    assert len(wanted) > 40
    nobodys = {scene.more["A_SECRET_OF_NOBODY"].encode(): "another variable"}
    with Watch(home.directory, wanted | nobodys) as watch:
        home.start(entry=[str(home.directory / "boom.py")], more=scene.more)
        deploy(scene)
        be_refused(scene)
        reload(scene)
        home.kill()
        home.start(entry=[str(home.directory / "boom.py")], more=scene.more)
        wait_for("the service to be looked at again", lambda: home.get("/health").status == 200)
        ask_everything(scene)
        assert home.stop() == 0
    read_everything(scene)
    leaks = scene.out.leaks(wanted)
    assert not leaks, "\n".join(leaks)
    assert "python3" in watch.seen, watch.seen  # the service; what is short-lived is seen mostly
    assert not watch.leaks
    judge_the_search(scene, wanted)


def judge_the_search(scene: Scene, wanted: dict[bytes, str]) -> None:
    """What was searched holds what it should: hidden places of secrets, and a defect with its traceback."""
    texts = scene.out.texts
    hidden = {name for name, content in texts.items() if b"***" in content}
    for part in ("agent.log", "homeport logs", "/log", "state.db"):
        assert any(part in name for name in hidden), part
    log = next(content for name, content in texts.items() if name.endswith("agent.log"))
    assert b"RuntimeError: a defect beside ***" in log
    assert b"Traceback" in log
    assert any(b"you sent" in content for content in texts.values()), "the git host's answer is told"
    everything = b"".join(texts.values())
    assert b"output" in everything
    assert len(texts) > 60
    raw = (scene.home.state / "run" / "app" / "output").read_bytes()
    assert {name for needle, name in wanted.items() if needle in raw} >= set(scene.canaries.known)
