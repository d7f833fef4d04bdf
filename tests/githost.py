"""A git host that speaks https: `git http-backend` behind a real TLS server with Basic authentication."""

import base64
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def make_ca(directory: Path) -> Path:
    """A self-made authority and a certificate of this machine's names, by it; returns the file for both sides."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", directory / "tls.key", "-out", directory / "tls.crt", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    (directory / "tls.pem").write_bytes(
        (directory / "tls.key").read_bytes() + (directory / "tls.crt").read_bytes()
    )
    return directory / "tls.crt"


@dataclass
class GitHost:
    """`root` holds the repositories; whoever asks needs one of the `tokens`, if there are any. `redirect`: where all
    of it is."""

    root: Path
    tokens: set[str]
    port: int = 0
    redirect: str | None = None
    mood: Callable[[BaseHTTPRequestHandler, bytes], bool] | None = None
    """Looks at every request first, with its body; True: it has answered."""
    seen: list[str] = field(default_factory=list)
    """What was sent as Authorization, decoded."""

    def url(self, name: str, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}/{name}"


@contextmanager
def serving(host: GitHost, pem: Path) -> Iterator[GitHost]:
    """The host answers; `pem` holds its key and its certificate."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"host": host}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    host: GitHost

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = self.headers.get("Authorization", "")
        if given:
            self.host.seen.append(base64.b64decode(given.removeprefix("Basic ")).decode())
        if self.host.mood is not None and self.host.mood(self, body):
            return
        if self.host.redirect is not None:
            self._say(302, {"Location": self.host.redirect + self.path}, b"")
        elif self.host.tokens and (not given or self.host.seen[-1].partition(":")[2] not in self.host.tokens):
            self._say(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        elif "/info/lfs/" in self.path:
            self._say(*_lfs(self.host, self.path, body))
        else:
            self._say(*_backend(self.host.root, self, body))

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _lfs(host: GitHost, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """The batch API of Git LFS for downloads. An object is served from where git-lfs keeps it in the repository."""
    repository, _, what = path.partition("/info/lfs/")
    store = host.root / repository.strip("/") / "lfs" / "objects"
    if what != "objects/batch":
        return 200, {"Content-Type": "application/octet-stream"}, (store / what).read_bytes()
    answers: list[dict[str, Any]] = []
    for wanted in json.loads(body)["objects"]:
        place = f"{wanted['oid'][:2]}/{wanted['oid'][2:4]}/{wanted['oid']}"
        if (store / place).is_file():
            download = {"href": f"{host.url(repository.strip('/'))}/info/lfs/{place}"}
            answers.append({**wanted, "authenticated": False, "actions": {"download": download}})
        else:
            answers.append({**wanted, "error": {"code": 404, "message": "Object does not exist"}})
    answer = {"transfer": "basic", "objects": answers}
    return 200, {"Content-Type": "application/vnd.git-lfs+json"}, json.dumps(answer).encode()


def _backend(root: Path, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """git-http-backend(1), by CGI."""
    path, _, query = request.path.partition("?")
    variables = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        "REQUEST_METHOD": request.command, "PATH_INFO": path, "QUERY_STRING": query,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }  # fmt: skip
    done = subprocess.run(["git", "http-backend"], env=variables, input=body, capture_output=True, check=True)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    status = int(headers.pop("Status", "200").split()[0])
    return status, headers, content
