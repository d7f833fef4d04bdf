"""Versions change over side by side on a Pi with its real systemd and nginx, installed as a user does it."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from tests.e2e.installed import CONFIG, REPOSITORY, Installed
from tests.e2e.pi import Pi
from tests.meta.sources import ROOT
from tests.world import SECRET, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PI = ("--docker-arg", "--network=none")
DEPLOYMENTS, ROLLBACKS = (20, 5) if os.environ.get("BLUE_GREEN") == "long" else (5, 2)
NAME = "app.example.org"
UNIT = "/etc/systemd/system/app@.service"
SITE = "/etc/nginx/conf.d/homeport-site-app.conf"
UPSTREAM = "/etc/nginx/conf.d/homeport-upstream-app.conf"
COLOURS = ("blue", "green")

SERVE = """
import http.server, json, os, pathlib, time
here = pathlib.Path(__file__).resolve().parent
mode = (here / "mode").read_text().strip()
version = (here / "version").read_text().strip()
print("starting", version, mode, os.environ["PORT"], flush=True)

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(600):
                text = f"{version} {number}\\n".encode()
                self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(text), text))
                self.wfile.flush()
                time.sleep(0.1)
            return
        body = json.dumps({"version": version, "port": os.environ["PORT"]}).encode()
        self.send_response(500 if mode == "sick" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
server.daemon_threads = True
server.serve_forever()
"""
USERS = f"""
import json, socket, ssl, sys, threading, time
context = ssl.create_default_context(cafile="/etc/ssl/certs/app.pem")
said, stop = [], threading.Event()

def ask():
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", 443), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="{NAME}") as secure:
                secure.sendall(b"GET / HTTP/1.1\\r\\nHost: {NAME}\\r\\nConnection: close\\r\\n\\r\\n")
                answer = b""
                while piece := secure.recv(65536):
                    answer += piece
        head, _, body = answer.partition(b"\\r\\n\\r\\n")
        status = int(head.split()[1])
        said.append([status, json.loads(body)["version"] if status == 200 else "", time.monotonic() - began])
    except Exception as error:
        said.append([0, repr(error), time.monotonic() - began])

def report():
    sys.stdin.readline()
    stop.set()

threading.Thread(target=report, daemon=True).start()
threads, due = [], time.monotonic()
while not stop.is_set():
    threads.append(threading.Thread(target=ask))
    threads[-1].start()
    due += 1 / 50
    time.sleep(max(0, due - time.monotonic()))
for thread in threads:
    thread.join()
json.dump(said, open(sys.argv[1], "w"))
"""
CERTIFICATE = f"""
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$1" -subj /CN={NAME} \
  -addext subjectAltName=DNS:{NAME} -keyout /etc/ssl/private/app.key -out /etc/ssl/certs/app.pem 2>/dev/null
cp /etc/ssl/certs/app.pem /usr/local/share/ca-certificates/app.crt
update-ca-certificates --fresh >/dev/null 2>&1
"""


class Served:
    """The service behind nginx."""

    def __init__(self, homeport: Installed) -> None:
        self.homeport = homeport
        self.pi = homeport.pi

    def ask(self, path: str = "/") -> dict[str, Any] | None:
        """As a user: through nginx, over TLS."""
        done = self.pi.run(
            "curl", "--silent", "--fail", "--max-time", "5", "--resolve", f"{NAME}:443:127.0.0.1",
            f"https://{NAME}{path}", check=False,
        )  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 else None

    def running(self) -> dict[str, str]:
        """Which release each colour that runs works in."""
        found = {}
        for colour in COLOURS:
            shown = self.pi.run("systemctl", "show", "--property=MainPID", "--value", f"app@{colour}").stdout
            if int(shown):
                place = self.pi.run("readlink", f"/proc/{int(shown)}/cwd", check=False).stdout
                found[colour] = place.strip().rpartition("/")[2]
        return found

    def nginx(self) -> str:
        """The colour that the upstream's file names."""
        text = self.pi.get(UPSTREAM)
        assert text.endswith("}\n"), text
        return "blue" if "127.0.0.1:9101;" in text else "green"

    def links(self) -> dict[str, str]:
        """What the links of the colours name."""
        found = {}
        for colour in COLOURS:
            shown = self.pi.run("readlink", f"/srv/app/{colour}", check=False).stdout.strip()
            if shown:
                found[colour] = shown.rpartition("/")[2]
        return found

    def at_rest(self, version: str, seconds: float = 40.0) -> None:
        """One colour runs what is live, nginx sends users there, a boot would start the same."""

        def look() -> bool:
            live = self.homeport.get("/status").document["services"]["app"]["live"]
            here = {self.nginx(): live["release"]}
            said = self.ask()
            return said is not None and said["version"] == version and self.running() == here == self.links()

        wait_for(f"one colour with {version}", look, seconds)

    @contextmanager
    def users(self) -> Iterator[list[tuple[int, str, float]]]:
        """Fifty times a second somebody asks meanwhile; afterwards the list has what each was told."""
        seen: list[tuple[int, str, float]] = []
        output = f"/run/users-{secrets.token_hex(4)}"
        pipe = f"{output}.stop"
        self.pi.run("mkfifo", pipe)
        self.pi.put("/opt/users.py", USERS)
        unit = output.rpartition("/")[2]
        command = f"exec python3 /opt/users.py {output} <>{pipe}"
        self.pi.run("systemd-run", f"--unit={unit}", "sh", "-c", command)
        try:
            time.sleep(0.3)
            yield seen
        finally:
            time.sleep(0.3)
            self.pi.run("sh", "-c", f"echo >{pipe}")
            wait_for("the users", lambda: self.pi.run("systemctl", "is-active", unit, check=False).returncode)
        seen += [tuple(item) for item in json.loads(self.pi.get(output))]


def site() -> str:
    """As it is shipped, for the test's name and certificate."""
    text = (ROOT / "nginx" / "blue-green.conf").read_text()
    text = text.replace("/etc/letsencrypt/live/scraper.example.org/fullchain.pem", "/etc/ssl/certs/app.pem")
    text = text.replace("/etc/letsencrypt/live/scraper.example.org/privkey.pem", "/etc/ssl/private/app.key")
    return text.replace("scraper.example.org", NAME).replace("scraper", "app")


def unit() -> str:
    """As it is shipped, for the test's service."""
    text = (ROOT / "systemd" / "example-blue-green@.service").read_text().replace("example", "app")
    return text.replace("./.venv/bin/python -m app", "/usr/bin/python3 -S -E serve.py").replace(
        "User=app\nGroup=app\n", "User=app\nGroup=app\nEnvironment=PYTHONDONTWRITEBYTECODE=1\n"
    )


@pytest.fixture(scope="module")
def served(pi: Pi, wheelhouse: Any) -> Served:
    """Installed by its own command; one version is live, behind nginx."""
    made = Installed(pi)
    made.install_command(wheelhouse)
    pi.run("/opt/homeport/bin/homeport", "install")
    pi.run("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "app")
    pi.put(UNIT, unit())
    pi.run("systemctl", "daemon-reload")
    made.make_repository()
    pi.put("/home/me/app/serve.py", SERVE, owner="me")
    pi.put("/etc/homeport/credentials/webhook-secret", SECRET, mode=0o600)
    made.settings["github"] = {"webhook_secrets": [{"credential": "webhook-secret"}]}
    app = made.settings["services"]["app"]
    app["runtime"] = {"kind": "systemd", "unit": "app@.service"}
    app["source"]["repository"] = REPOSITORY
    app["deploy"] |= {"strategy": "blue-green"}
    app["blue_green"] = {"ports": [9101, 9102], "url": f"https://{NAME}/", "drain": "6s"}
    app["health"]["probes"] = [{"kind": "http", "url": "http://127.0.0.1:9101/"}]
    pi.put(CONFIG, yaml.safe_dump(made.settings))
    pi.run("homeport", "install")
    pi.run("systemctl", "enable", "--quiet", "app@blue", "app@green")
    pi.run("sh", "-ec", CERTIFICATE, "sh", "30")
    pi.put(UPSTREAM, "upstream homeport-app {\n    server 127.0.0.1:9101;\n}\n")
    pi.put(SITE, site())
    pi.run("nginx", "-t")
    pi.run("systemctl", "restart", "nginx")
    result = Served(made)
    ended = made.deploy("first")
    assert ended["state"] == "succeeded", (ended, pi.journal("homeport-upstream@app-blue")[-3000:])
    result.at_rest("first")
    return result


def test_no_request_is_lost_while_versions_come_and_go(served: Served) -> None:
    """Over TLS, fifty a second, through nginx."""
    homeport = served.homeport
    with served.users() as seen:
        for number in range(DEPLOYMENTS):
            ended = homeport.deploy(f"v{number}")
            assert ended["state"] == "succeeded", ended
        for _ in range(ROLLBACKS):
            answer = homeport.pi.run("homeport", "rollback", "app", "--json")
            ended = homeport.ended(json.loads(answer.stdout)["id"])
            assert ended["state"] == "succeeded", ended
    lost = [item for item in seen if item[0] != 200]
    print(f"{len(seen)} requests, {len(lost)} lost, the slowest took {max(item[2] for item in seen):.2f} s")
    assert lost == []
    assert len(seen) > 50 * (DEPLOYMENTS + ROLLBACKS)
