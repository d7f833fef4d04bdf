"""Versions change over side by side on a Pi with its real systemd and nginx, installed as a user does it."""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from agent.core import configuration, proxy
from tests.e2e.installed import CONFIG, REPOSITORY, Installed
from tests.e2e.pi import Pi
from tests.meta.sources import ROOT
from tests.world import SECRET, push_body, signed, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PI = ("--docker-arg", "--network=none")
LONG = pytest.mark.long
DEPLOYMENTS, ROLLBACKS = (20, 5) if os.environ.get("BLUE_GREEN") == "long" else (5, 2)
NAME, AGENT = "app.example.org", "pi.example.org"
UNIT = "/etc/systemd/system/app@.service"
SITE = "/etc/nginx/conf.d/homeport-site-app.conf"
UPSTREAM = "/etc/nginx/conf.d/homeport-upstream-app.conf"
OWN_SITE = "/etc/nginx/conf.d/homeport.conf"
NGINX = ("--nginx", "--certificate", "/etc/ssl/pi.pem", "--certificate-key", "/etc/ssl/pi.key")
COLOURS = ("blue", "green")
HARDENED = (
    "ProtectSystem=strict",
    "ProtectControlGroups=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
)
"""Of homeport.service: what might keep the agent from seeing what a service takes."""

SERVE = """
import http.server, json, os, pathlib, signal, time
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
            self.send_header("X-Accel-Buffering", "no")
            self.end_headers()
            for number in range(600):
                text = f"{version} {number}\\n".encode()
                self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(text), text))
                self.wfile.flush()
                time.sleep(0.1)
            return
        if self.headers.get("Upgrade") == "websocket":
            self.connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n"
            )
            while text := self.connection.recv(100):
                self.connection.sendall(version.encode() + b" " + text)
            self.close_connection = True
            return
        if self.path == "/read":
            pathlib.Path("/opt/large").read_bytes()
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = json.dumps({"version": version, "port": os.environ["PORT"]}).encode()
        self.send_response(500 if mode == "stubborn" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args):
        pass

if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
server.daemon_threads = True
server.serve_forever()
"""
USERS = f"""
import json, socket, ssl, sys, threading, time
context = ssl.create_default_context(cafile="/usr/local/share/ca-certificates/app.crt")
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
TALK = f"""
import socket, ssl, sys, time
context = ssl.create_default_context(cafile="/usr/local/share/ca-certificates/app.crt")
plain = socket.create_connection(("127.0.0.1", 443), timeout=20)
secure = context.wrap_socket(plain, server_hostname="{NAME}")
secure.sendall(b"GET /talk HTTP/1.1\\r\\nHost: {NAME}\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n")
print(secure.recv(1000).split()[1].decode(), flush=True)
while True:
    try:
        secure.sendall(b"%d" % time.monotonic())
        said = secure.recv(100)
    except OSError:
        break
    if not said:
        break
    print(said.decode(), flush=True)
    time.sleep(0.1)
"""
LATE = f"""
import os, socket, ssl, time
context = ssl.create_default_context(cafile="/usr/local/share/ca-certificates/app.crt")
def connected():
    plain = socket.create_connection(("127.0.0.1", 443), timeout=20)
    return context.wrap_socket(plain, server_hostname="{NAME}")
def answer(secure):
    with secure:
        try:
            return (secure.recv(65536).split() or [b"", b"closed"])[1].decode()
        except OSError:
            return "closed"
upload, first = connected(), connected()
upload.sendall(b"POST / HTTP/1.1\\r\\nHost: {NAME}\\r\\nConnection: close\\r\\nContent-Length: 9\\r\\n\\r\\nhalf")
print("begun", flush=True)
while not os.path.exists("/run/late.go"):
    time.sleep(0.05)
upload.sendall(b"whole")
try:
    first.sendall(b"GET / HTTP/1.1\\r\\nHost: {NAME}\\r\\nConnection: close\\r\\n\\r\\n")
except OSError:
    pass
print(answer(upload), answer(first), flush=True)
"""
CERTIFICATE = f"""
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$1" -subj /CN={NAME} \
  -addext subjectAltName=DNS:{NAME},DNS:{AGENT} -keyout /etc/ssl/pi.key -out /etc/ssl/pi.pem 2>/dev/null
cp /etc/ssl/pi.pem /usr/local/share/ca-certificates/app.crt
update-ca-certificates --fresh >/dev/null 2>&1
"""
EXPIRED = f"""
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=expired \\
  -addext subjectAltName=DNS:{NAME},DNS:{AGENT} -keyout /etc/ssl/pi.key 2>/dev/null |
  openssl x509 -req -CA /etc/ssl/pi.pem.kept -CAkey /etc/ssl/pi.key.kept -days -1 -copy_extensions copy \\
    -out /etc/ssl/pi.pem 2>/dev/null
systemctl reload nginx
"""
"""Signed by the one that is trusted: its last day was yesterday."""


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

    def at_rest(self, version: str, seconds: float = 90.0) -> None:
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
    made.settings["public_url"] = f"https://{AGENT}/"
    made.settings["trusted_proxies"] = ["127.0.0.1"]
    made.settings["github"] = {"webhook_secrets": [{"credential": "webhook-secret"}]}
    app = made.settings["services"]["app"]
    app["runtime"] = {"kind": "systemd", "unit": "app@.service"}
    app["source"]["repository"] = REPOSITORY
    app["deploy"] |= {"strategy": "blue-green"}
    app["blue_green"] = {"ports": [9101, 9102], "url": f"https://{NAME}/", "drain": "4s"}
    app["health"]["probes"] = [{"kind": "http", "url": "http://127.0.0.1:9101/"}]
    pi.put(CONFIG, yaml.safe_dump(made.settings))
    pi.run("homeport", "install")
    pi.run("systemctl", "enable", "--quiet", "app@blue", "app@green")
    pi.run("sh", "-ec", CERTIFICATE, "sh", "30")
    pi.run("systemctl", "start", "nginx")
    pi.run("homeport", "install", *NGINX)
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


def test_a_download_and_a_websocket_go_on_until_the_drain_is_over(served: Served) -> None:
    homeport, pi = served.homeport, served.pi
    homeport.deploy("before")
    command = f"curl --silent --no-buffer --resolve {NAME}:443:127.0.0.1 https://{NAME}/slow > /run/download"
    pi.run("systemd-run", "--unit=download", "sh", "-c", command)
    wait_for("the download", lambda: "before 1\n" in pi.run("cat", "/run/download", check=False).stdout)
    pi.put("/opt/talk.py", TALK)
    pi.run("systemd-run", "--unit=talk", "sh", "-c", "exec python3 /opt/talk.py >/run/talk")
    wait_for("the talk", lambda: "101\nbefore " in pi.run("cat", "/run/talk", check=False).stdout)
    identity = homeport.push("after")
    wait_for("the swap", lambda: (served.ask() or {}).get("version") == "after")
    swapped = written(pi, UPSTREAM)
    assert homeport.ended(identity)["state"] == "succeeded"
    served.at_rest("after")
    lines = pi.get("/run/download").splitlines()
    talk = pi.get("/run/talk").splitlines()
    assert {line.split()[0] for line in talk[1:]} == {"before"}
    assert lines == [f"before {number}" for number in range(len(lines))]
    for heard in ("/run/download", "/run/talk"):
        assert 3 <= written(pi, heard) - swapped <= 15, "four seconds; by itself it takes a minute, or no end"


@contextmanager
def ruled(served: Served, **rules: str) -> Iterator[None]:
    """Meanwhile `blue_green` says this."""
    homeport = served.homeport
    kept = homeport.settings["services"]["app"]["blue_green"]
    try:
        homeport.settings["services"]["app"]["blue_green"] = kept | rules
        homeport.pi.put(CONFIG, yaml.safe_dump(homeport.settings))
        homeport.pi.run("homeport", "reload")
        yield
    finally:
        homeport.settings["services"]["app"]["blue_green"] = kept
        homeport.pi.put(CONFIG, yaml.safe_dump(homeport.settings))
        homeport.pi.run("homeport", "reload")


def test_a_way_back_waits_for_no_drain_and_a_websocket_goes_on(served: Served) -> None:
    """The new version is bad although it has proven itself, and the drain would last ten minutes."""
    homeport, pi = served.homeport, served.pi
    with ruled(served, drain="10m"):
        homeport.deploy("old")
        pi.put("/opt/talk.py", TALK)
        pi.run("systemd-run", "--unit=talk-on", "sh", "-c", "exec python3 /opt/talk.py >/run/talk-on")
        wait_for("the talk", lambda: "101\nold " in pi.run("cat", "/run/talk-on", check=False).stdout)
        assert homeport.deploy("bad")["state"] == "succeeded"
        with served.users() as seen:
            answer = pi.run("homeport", "rollback", "app", "--json")
            assert homeport.ended(json.loads(answer.stdout)["id"])["state"] == "succeeded"
            assert (served.ask() or {})["version"] == "old"
        lines = len(pi.get("/run/talk-on").splitlines())
        wait_for("it to go on", lambda: len(pi.get("/run/talk-on").splitlines()) > lines)
        pi.run("systemctl", "stop", "talk-on")
        served.at_rest("old")
    assert {line.split()[0] for line in pi.get("/run/talk-on").splitlines()[1:]} == {"old"}
    assert [item for item in seen if item[0] != 200] == []


def written(pi: Pi, path: str) -> float:
    """When a file was last written to, in seconds: by the machine's clock, however late somebody looks."""
    return float(pi.run("stat", "--format=%.9Y", path).stdout)


def test_who_sends_what_he_has_to_say_after_the_swap_is_answered(served: Served) -> None:
    """An upload that was under way, and a connection on which nothing was asked yet: both are nginx's old workers'."""
    homeport, pi = served.homeport, served.pi
    pi.put("/opt/late.py", LATE)
    pi.run("rm", "-f", "/run/late.go")
    pi.run("systemd-run", "--unit=late", "sh", "-c", "exec python3 /opt/late.py >/run/late")
    wait_for("the upload", lambda: "begun" in pi.run("cat", "/run/late", check=False).stdout)
    root, colour = pi.root, "green" if served.nginx() == "blue" else "blue"
    identity = homeport.push("late")
    # Seen and answered from outside: on a busy machine each command in the Pi may take a second of the four.
    wait_for("the swap", lambda: at(served, "swapped", colour, "late"))
    time.sleep(2.5)  # in which the old one was ended, when only who was connected to it counted
    (root / "run/late.go").touch()
    wait_for("their answers", lambda: len(pi.get("/run/late").splitlines()) == 2)
    upload, first = pi.get("/run/late").splitlines()[1].split()
    assert homeport.ended(identity)["state"] == "succeeded"
    served.at_rest("late")
    assert upload == "200"
    assert first in ("200", "closed"), "closed: browsers ask again by themselves"


@contextmanager
def another(pi: Pi, port: int) -> Iterator[None]:
    """Somebody else listens at this port."""
    answers = ("curl", "--silent", "--output", "/dev/null", f"127.0.0.1:{port}")
    wait_for(
        "the port", lambda: pi.run(*answers, check=False).returncode == 7
    )  # who is drained has it till then
    command = ("python3", "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", "/opt")
    pi.run("systemd-run", "--unit=another", *command)
    wait_for("somebody else", lambda: pi.run(*answers, check=False).returncode == 0)
    try:
        yield
    finally:
        pi.run("systemctl", "stop", "another")


@contextmanager
def in_nginx(pi: Pi, text: str) -> Iterator[None]:
    """One more file in nginx's configuration."""
    pi.put("/etc/nginx/conf.d/zz-more.conf", text)
    try:
        yield
    finally:
        pi.run("rm", "/etc/nginx/conf.d/zz-more.conf")
        pi.run("nginx", "-t")


def refused(served: Served, version: str) -> dict[str, Any]:
    """A deployment that must not succeed, while users notice nothing; afterwards all is as before."""
    before, told = served.ask(), served.pi.get(UPSTREAM)
    assert before is not None
    with served.users() as seen:
        ended = served.homeport.deploy(version)
    assert {item[1] for item in seen} == {before["version"]}
    served.at_rest(before["version"])
    assert served.pi.get(UPSTREAM) == told
    assert ended["fault"] == "world", ended
    blamed = served.homeport.get("/status").document["services"]["app"]["quarantine"]
    assert ended["revision"] not in [item["revision"] for item in blamed]
    return ended


def test_a_colours_port_that_is_taken_is_told_before_anything_is_started(served: Served) -> None:
    port = 9102 if served.nginx() == "blue" else 9101
    with another(served.pi, port):
        ended = refused(served, "taken")
    assert (ended["state"], ended["reason"]) == ("failed", "port-in-use")
    assert str(port) in ended["steps"][-1]["detail"]


def test_an_nginx_that_refuses_its_configuration_keeps_the_old_version(served: Served) -> None:
    with in_nginx(served.pi, "no_such_word on;\n"):
        ended = refused(served, "refused")
    served.homeport.pi.run("homeport", "resume", "app", check=False)
    assert (ended["state"], ended["reason"]) == ("rolled_back", "nginx-refused")
    assert "no_such_word" in " ".join(step["detail"] for step in ended["steps"])


def test_an_nginx_that_cannot_take_its_configuration_up_keeps_the_old_version(served: Served) -> None:
    """`nginx -t` finds nothing: that a port is taken it learns at the reload, and tells its log alone."""
    with another(served.pi, 9876), in_nginx(served.pi, "server { listen 127.0.0.1:9876; }\n"):
        ended = refused(served, "stuck")
    served.homeport.pi.run("homeport", "resume", "app", check=False)
    assert (ended["state"], ended["reason"]) == ("rolled_back", "nginx-refused")
    assert "9876" in " ".join(step["detail"] for step in ended["steps"])


@contextmanager
def certificate(pi: Pi, days: int, *, swapped: bool = False) -> Iterator[None]:
    """Another certificate than the one that is trusted; `swapped`: its key is another one's."""
    kept = "/etc/ssl/pi.pem", "/etc/ssl/pi.key"
    pi.run("sh", "-ec", 'for file; do cp "$file" "$file.kept"; done', "sh", *kept)
    own = "/etc/ssl/pi.key" if not swapped else "/dev/null"
    made = CERTIFICATE.partition("\ncp ")[0].replace("/etc/ssl/pi.key", own)
    pi.run("sh", "-ec", made, "sh", str(days))
    try:
        yield
    finally:
        pi.run("sh", "-ec", 'for file; do mv "$file.kept" "$file"; done', "sh", *kept)
        pi.run("systemctl", "reload", "nginx")


def test_a_key_that_is_not_the_certificates_keeps_the_old_version(served: Served) -> None:
    with certificate(served.pi, 30, swapped=True):
        ended = refused(served, "mismatched")
    served.homeport.pi.run("homeport", "resume", "app", check=False)
    assert (ended["state"], ended["reason"]) == ("rolled_back", "nginx-refused")


def test_a_certificate_that_nobody_trusts_is_told_and_users_are_sent_back(served: Served) -> None:
    """nginx takes it; who is sent to the new version would be warned of it."""
    before = served.ask()
    with certificate(served.pi, 30):
        ended = served.homeport.deploy("untrusted")
        assert (ended["state"], ended["reason"]) == ("rolled_back", "nginx-unanswered")
        assert "certificate" in " ".join(step["detail"] for step in ended["steps"])
    served.homeport.pi.run("homeport", "resume", "app", check=False)
    served.at_rest((before or {})["version"])


def test_a_certificate_that_has_expired_is_told_by_the_doctor_and_users_are_sent_back(served: Served) -> None:
    """Whoever signed it is trusted, and its last day was yesterday. nginx takes it without a word."""
    before = served.ask()
    good = f"users of https://{NAME}/: are answered"
    assert good in served.pi.run("homeport", "doctor", check=False).stdout
    with certificate(served.pi, 30):
        served.pi.run("sh", "-ec", EXPIRED)
        installed = served.pi.run("homeport", "install", *NGINX, check=False)
        assert installed.returncode == 0, installed.stderr
        said = served.pi.run("homeport", "doctor", check=False)
        assert said.returncode == 1
        told = [line for line in said.stdout.splitlines() if f"users of https://{NAME}/" in line]
        assert "the certificate is not valid: certificate has expired" in told[0]
        ended = served.homeport.deploy("expired")
        assert (ended["state"], ended["reason"]) == ("rolled_back", "nginx-unanswered")
        assert "certificate has expired" in " ".join(step["detail"] for step in ended["steps"])
    served.homeport.pi.run("homeport", "resume", "app", check=False)
    served.at_rest((before or {})["version"])
    assert good in served.pi.run("homeport", "doctor", check=False).stdout


def test_an_upstream_file_that_is_not_whole_is_written_anew(served: Served) -> None:
    served.pi.put(UPSTREAM, served.pi.get(UPSTREAM)[:-30])
    with served.users() as seen:
        assert served.homeport.deploy("whole")["state"] == "succeeded"
    assert {item[0] for item in seen} == {200}
    served.at_rest("whole")


def test_install_makes_an_upstream_file_anew_and_users_stay_where_they_are(served: Served) -> None:
    if served.nginx() == "blue":
        assert served.homeport.deploy("in-green")["state"] == "succeeded"
    before, text = served.ask() or {}, served.pi.get(UPSTREAM)
    served.at_rest(before["version"])
    for kept in (text[:-30], ""):
        served.pi.put(UPSTREAM, kept)
        assert f"{UPSTREAM} was written" in served.pi.run("homeport", "install", *NGINX).stdout
        assert served.pi.get(UPSTREAM) == text
        assert served.ask() == before


def test_files_that_a_service_has_read_are_no_memory_that_a_copy_needs(served: Served) -> None:
    """As the agent sees it in its unit."""
    pi, unit = served.pi, f"app@{served.nginx()}.service"
    pi.run("dd", "if=/dev/zero", "of=/opt/large", "bs=1M", "count=64", "conv=fsync")
    pi.run("dd", "if=/opt/large", "iflag=nocache", "count=0")  # the cache belongs to who reads it first
    assert served.ask("/read")
    code = (
        "import asyncio; from agent.system.systemctl import CommandUnits;"
        f" print(asyncio.run(CommandUnits().memory('{unit}')))"
    )
    hardened = [f"--property={line}" for line in ("User=homeport", *HARDENED)]
    run = ("systemd-run", "--quiet", "--wait", "--pipe", *hardened, "/opt/homeport/bin/python", "-c", code)
    needed = int(pi.run(*run).stdout)
    shown = int(pi.run("systemctl", "show", "--property=MemoryCurrent", "--value", unit).stdout)
    print(f"{unit}: systemd says {shown >> 20} MiB, {needed >> 20} of them no page cache")
    assert needed < 48 << 20 < shown


def test_where_two_copies_do_not_fit_it_is_restarted_and_that_is_told(served: Served) -> None:
    homeport = served.homeport
    with ruled(served, memory="1T"):
        colour = served.nginx()
        ended = homeport.deploy("big")
        assert ended["state"] == "succeeded"
        (detail,) = (step["detail"] for step in ended["steps"] if step["name"] == "switching")
        assert "restarted: " in detail
        assert "a second copy needs 1T" in detail or "needs 10" in detail, detail
        served.at_rest("big")
        assert served.nginx() == colour


def test_other_ports_count_once_nginx_can_be_led_there(served: Served) -> None:
    """Before `install` a reload is refused; an agent that begins with them ends nobody who serves."""
    homeport, pi = served.homeport, served.pi
    app, before = homeport.settings["services"]["app"], pi.get(CONFIG)
    version, runs = (served.ask() or {})["version"], served.running()
    other = app | {
        "blue_green": app["blue_green"] | {"ports": [9201, 9202]},
        "health": app["health"] | {"probes": [{"kind": "http", "url": "http://127.0.0.1:9201/"}]},
    }
    homeport.settings["services"]["app"] = other
    try:
        pi.put(CONFIG, yaml.safe_dump(homeport.settings))
        done = pi.run("homeport", "reload", check=False)
        assert done.returncode != 0
        assert "/etc/homeport/upstreams.json has other ports for app" in done.stdout + done.stderr
        with served.users() as seen:
            pi.run("systemctl", "restart", "homeport")
            wait_for("it to be told", lambda: "app cannot be healed" in pi.journal("homeport"))
        assert [item for item in seen if item[0] != 200] == []
        assert served.running() == runs
        pi.run("homeport", "install")
        wait_for("the new port", lambda: (served.ask() or {}).get("port") in ("9201", "9202"))
        assert (served.ask() or {})["version"] == version
    finally:
        homeport.settings["services"]["app"] = app
        pi.put(CONFIG, before)
        pi.run("homeport", "install")
        pi.run("homeport", "reload")
    wait_for("the old port", lambda: (served.ask() or {}).get("port") in ("9101", "9102"))
    served.at_rest(version)


def test_the_agents_user_may_start_a_swap_and_nothing_more(served: Served) -> None:
    def may(*words: str) -> bool:
        command = ("systemctl", "--no-ask-password", *words)
        return served.pi.run(*command, user="homeport", check=False).returncode == 0

    colour = served.nginx()
    assert may("start", f"homeport-upstream@app-{colour}.service")
    assert not may("stop", f"homeport-upstream@app-{colour}.service")
    assert not may("start", f"homeport-upstream@other-{colour}.service")
    assert not may("start", "homeport-upstream@..-..-etc-cron.d-x-blue.service")
    for path in ("/etc/homeport/upstreams.json", "/etc/nginx/conf.d/x.conf", UPSTREAM):
        assert served.pi.run("sh", "-c", f"echo >>{path}", user="homeport", check=False).returncode != 0
    served.pi.run("systemctl", "start", "homeport-upstream@nobody-blue.service", check=False)
    assert "has nothing of that name" in served.pi.journal("homeport-upstream@nobody-blue.service")


# --- cuts


def at(served: Served, instant: str, colour: str, version: str) -> bool:
    """Whether a deployment has come that far; `colour` is that of the new version."""
    root = served.pi.root
    if instant == "linked":
        return (root / "srv/app" / colour).is_symlink()
    if instant == "swapped":
        return ("9101;" if colour == "blue" else "9102;") in (root / UPSTREAM[1:]).read_text()
    assert instant == "draining"
    old = "green" if colour == "blue" else "blue"
    return (served.ask() or {}).get("version") == version and not (root / "srv/app" / old).is_symlink()


@pytest.mark.parametrize("instant", ["linked", "swapped", "draining"])
def test_the_agent_dies_at_a_step_and_users_notice_nothing(served: Served, instant: str) -> None:
    homeport, version = served.homeport, f"kill-{instant}"
    before = (served.ask() or {})["version"]
    colour = "green" if served.nginx() == "blue" else "blue"
    with served.users() as seen:
        identity = homeport.push(version)
        wait_for(instant, lambda: at(served, instant, colour, version))
        served.pi.run("systemctl", "kill", "--signal=KILL", "--kill-who=all", "homeport")
        ended = homeport.ended(identity)
    assert {item[0] for item in seen} == {200}
    assert ended["state"] in ("succeeded", "rolled_back"), ended
    served.at_rest(version if ended["state"] == "succeeded" else before)


@pytest.mark.parametrize("instant", ["linked", "swapped", "draining"])
def test_a_power_cut_at_a_step_leaves_one_colour_that_serves(served: Served, instant: str) -> None:
    homeport, version = served.homeport, f"cut-{instant}"
    before = (served.ask() or {})["version"]
    colour = "green" if served.nginx() == "blue" else "blue"
    identity = homeport.push(version)
    wait_for(instant, lambda: at(served, instant, colour, version))
    served.pi.power_cut()
    wait_for("users", served.ask)
    ended = homeport.ended(identity)
    assert ended["state"] in ("succeeded", "rolled_back"), ended
    served.at_rest(version if ended["state"] == "succeeded" else before)


@pytest.mark.parametrize(
    "instant", [pytest.param("linked", marks=LONG), "swapped", pytest.param("draining", marks=LONG)]
)
def test_a_power_cut_on_the_way_back_leaves_one_colour_that_serves(served: Served, instant: str) -> None:
    homeport, target = served.homeport, (served.ask() or {})["version"]
    assert homeport.deploy(f"left-{instant}")["state"] == "succeeded"
    served.at_rest(f"left-{instant}")
    colour = "green" if served.nginx() == "blue" else "blue"
    answer = homeport.pi.run("homeport", "rollback", "app", "--json")
    wait_for(instant, lambda: at(served, instant, colour, target))
    served.pi.power_cut()
    wait_for("users", served.ask)
    ended = homeport.ended(json.loads(answer.stdout)["id"])
    assert ended["state"] == "succeeded", ended
    served.at_rest(target)


@pytest.mark.long
def test_a_power_cut_while_a_bad_version_is_taken_back_ends_with_the_old_one(served: Served) -> None:
    """It does not end when it is told to, so that the way back takes its time."""
    homeport, before = served.homeport, (served.ask() or {})["version"]
    colour = "green" if served.nginx() == "blue" else "blue"
    identity = homeport.push("bad", "stubborn")
    wait_for("the way back", lambda: homeport.deployment(identity)["state"] == "rolling_back", 60)
    wait_for("its end", lambda: colour not in served.links())
    assert colour in served.running()
    served.pi.power_cut()
    wait_for("users", served.ask)
    assert homeport.ended(identity)["state"] == "rolled_back"
    served.at_rest(before)
    homeport.pi.run("homeport", "resume", "app", check=False)


@pytest.mark.long
def test_a_power_cut_while_users_are_not_reached_sends_them_back(served: Served) -> None:
    homeport, before = served.homeport, (served.ask() or {})["version"]
    colour = "green" if served.nginx() == "blue" else "blue"
    with certificate(served.pi, 30):
        identity = homeport.push("unreached")
        wait_for("the swap", lambda: at(served, "swapped", colour, "unreached"))
        served.pi.power_cut()
        ended = homeport.ended(identity)
    assert (ended["state"], ended["reason"]) == ("rolled_back", "nginx-unanswered"), ended
    served.at_rest(before)
    homeport.pi.run("homeport", "resume", "app", check=False)


# --- what `install --nginx` writes


WORLD = "203.0.113.5"
"""Not an address at home: an own one of the Pi, from which it asks itself."""


@pytest.fixture
def world(served: Served) -> Iterator[Callable[..., str]]:
    """Asks the agent from outside; the status of the answer."""
    served.pi.run("ip", "address", "add", f"{WORLD}/32", "dev", "lo")

    def ask(path: str, *options: str, given: bytes = b"") -> str:
        way = ("--interface", WORLD, "--resolve", f"{AGENT}:443:{WORLD}")
        shown = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "20")
        done = served.pi.run(
            "curl", *way, *shown, *options, f"https://{AGENT}{path}", given=given, check=False
        )
        return done.stdout

    yield ask
    served.pi.run("ip", "address", "del", f"{WORLD}/32", "dev", "lo")


BAD = ("401", "429")
"""What the agent says to who has no signature, and to who had none too often."""


def test_only_the_webhook_is_open_to_the_world(world: Callable[..., str], served: Served) -> None:
    body = push_body("a" * 40, "me/nobody")
    headers = [
        part
        for name, value in (signed(body) | {"Content-Type": "application/json"}).items()
        for part in ("--header", f"{name}: {value}")
    ]
    assert world("/webhook", *headers, "--data-binary", "@-", given=body) == "200"
    assert world("/webhook", "--data-binary", "{}", "--header", "Content-Type: application/json") in BAD
    for path in ("/", "/status", "/health", "/webhook/", "/webhook/../", "//", "/api/v1/deployments"):
        assert world(path, "--path-as-is") == "403", path
    at_home = ("--resolve", f"{AGENT}:443:127.0.0.1", f"https://{AGENT}/health")
    assert '"status"' in served.pi.run("curl", "--silent", "--fail", *at_home).stdout


TRICKS = f"""
import json, socket, ssl, sys
context = ssl.create_default_context(cafile="/usr/local/share/ca-certificates/app.crt")
told = []
for request in json.load(sys.stdin):
    with socket.create_connection(("{WORLD}", 443), timeout=20, source_address=("{WORLD}", 0)) as plain:
        with context.wrap_socket(plain, server_hostname="{AGENT}") as secure:
            secure.sendall(request.encode("latin-1"))
            said = b""
            try:
                while piece := secure.recv(65536):
                    said += piece
            except OSError:
                pass
    told.append(said.decode("latin-1"))
print(json.dumps(told))
"""
SHUT = (
    "/webhook/..", "/webhook/../status", "/webhook/../../status", "/webhook/%2e%2e/status", "/webhook%2f..%2fstatus",
    "/webhook/..%2fstatus", "/webhook;/status", "/webhook/.", "/WEBHOOK", "/./status", "/%73tatus", "//status",
    "/webhook\\..\\status", "/status?/../webhook", "/status%3f/../x", "/status#/../webhook", "/webhook%20",
    "/webhook%00",
)  # fmt: skip
OPEN = ("/webhook", "//webhook", "/status/../webhook", "/status/%2e%2e/webhook", "/%77ebhook", "/webhook?x=/status",
        "/webhook#/../status", "/./webhook")  # fmt: skip


def test_no_way_of_asking_leads_the_world_to_more_than_the_webhook(
    world: Callable[..., str], served: Served
) -> None:
    """Paths, names, versions of HTTP. Whatever else leads to the webhook finds nothing but the webhook."""
    del world
    tail = f" HTTP/1.1\r\nHost: {AGENT}\r\nConnection: close\r\n\r\n"
    shut = [f"GET {path}{tail}" for path in SHUT]
    shut += [
        f"GET https://{AGENT}/status{tail}",
        f"GET /status HTTP/1.0\r\nHost: {AGENT}\r\n\r\n",
        f"POST /deploy{tail}",
    ]
    post = tail.removesuffix("\r\n") + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    opened = [f"POST {path}{post}" for path in OPEN]
    names = [f"GET /status HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n" for name in NAMES]
    names += [f"GET https://localhost/status{tail}", "GET /status\r\n"]
    said = json.loads(
        served.pi.run("python3", "-c", TRICKS, given=json.dumps([*shut, *opened, *names])).stdout
    )
    for request, answer in zip(shut, said, strict=False):
        assert "403 Forbidden" in answer or "400 Bad Request" in answer, (request, answer)
        assert "application/problem+json" not in answer, (request, answer)
    for request, answer in zip(opened, said[len(shut) :], strict=False):
        assert answer.split()[1] in BAD, (request, answer)
        assert "unauthorized" not in answer, "it is the webhook that answers, and no other route"
    for request, answer in zip(names, said[len(shut) + len(opened) :], strict=True):
        assert "problem+json" not in answer, (request, answer)
        assert "services" not in answer, (request, answer)


NAMES = (
    "localhost",
    "127.0.0.1",
    "127.0.0.1:8300",
    "nobody.example.org",
    f"{AGENT}:8300",
    f"{AGENT}.",
    AGENT.upper(),
)
"""Under which the agent might answer whoever asks."""


def test_what_is_too_big_or_too_much_does_not_reach_the_agent(
    world: Callable[..., str], served: Served
) -> None:
    assert world("/webhook", "--data-binary", "@-", given=b"x" * (26 << 20)) == "413"
    way = f"--interface {WORLD} --resolve {AGENT}:443:{WORLD}"
    flood = f"curl --silent --parallel --parallel-max 20 {way} -o /dev/null -w '%{{http_code}}\\n' -d {{}}"
    said = served.pi.run("sh", "-c", f"{flood} 'https://{AGENT}/webhook?[1-200]'", check=False).stdout
    assert said.count("429") > 50, said[-300:]
    assert world("/webhook", "-d", "{}") in ("415", "429")


def test_without_tls_one_is_sent_to_it_and_certbot_finds_its_place(served: Served) -> None:
    served.pi.put("/var/lib/homeport-acme/.well-known/acme-challenge/x", "asked")
    for name in (AGENT, NAME):
        way = ("curl", "--silent", "--include", "--resolve", f"{name}:80:127.0.0.1")
        said = served.pi.run(*way, f"http://{name}/a?b").stdout
        assert "308" in said.splitlines()[0]
        assert f"Location: https://{name}/a?b" in said
        assert "asked" in served.pi.run(*way, f"http://{name}/.well-known/acme-challenge/x").stdout


def test_a_second_install_changes_nothing_and_what_somebody_changed_stays(served: Served) -> None:
    pi = served.pi
    before = {path: pi.get(path) for path in (OWN_SITE, SITE, UPSTREAM)}
    said = pi.run("homeport", "install", *NGINX).stdout
    assert "was written" not in said
    assert "nft -c -f" in said
    changed = before[SITE].replace("proxy_read_timeout 1h", "proxy_read_timeout 2h")
    pi.put(SITE, changed)
    try:
        assert "it stays as it is" in pi.run("homeport", "install", *NGINX).stdout
        assert pi.get(SITE) == changed
    finally:
        pi.put(SITE, before[SITE])
    assert {path: pi.get(path) for path in before} == before
    pi.run("nginx", "-t")


def test_sites_that_nginx_refuses_are_taken_back(served: Served) -> None:
    before = served.pi.get(OWN_SITE)
    wrong = [*NGINX[:2], "/etc/hostname", *NGINX[3:]]
    done = served.pi.run("homeport", "install", *wrong, check=False)
    assert done.returncode == 1
    assert "they were taken back" in done.stderr + done.stdout
    assert served.pi.get(OWN_SITE) == before
    assert served.ask()


def test_the_doctor_knows_whom_nginx_serves(served: Served) -> None:
    said = served.pi.run("homeport", "doctor", check=False).stdout
    assert f"users are sent to {served.nginx()}" in said
    with in_nginx(served.pi, "no_such_word on;\n"):
        assert "refuses its configuration" in served.pi.run("homeport", "doctor", check=False).stdout


def test_the_agent_knows_who_asks_through_nginx_whatever_he_claims(
    world: Callable[..., str], served: Served
) -> None:
    """F90: real clients in what is told, chains of X-Forwarded-For, HTTP/1.0, and an nginx that restarts."""
    served.pi.run("systemctl", "restart", "nginx")
    claims = ("--header", "X-Forwarded-For: 198.51.100.7, 127.0.0.1", "--http1.0", "-d", "{}")
    said = world("/webhook", "--header", "Content-Type: application/json", *claims)
    assert said in ("401", "429"), said
    told = served.pi.journal("homeport")
    assert f"a webhook request from {WORLD} has no good signature" in told
    assert "198.51.100.7" not in told
    assert served.ask()


def test_without_polkit_the_swap_goes_by_sudo(served: Served) -> None:
    """R-SD-3."""
    pi, activation = served.pi, "org.freedesktop.PolicyKit1.service"
    program, by_name = "/usr/lib/polkit-1/polkitd", f"/usr/share/dbus-1/system-services/{activation}"
    away = f"mv {program} {program}.away; mv {by_name} /root; systemctl stop polkit; systemctl reload dbus"
    back = f"mv {program}.away {program}; mv /root/{activation} {by_name}; systemctl reload dbus"
    pi.run("sh", "-ec", away)
    try:
        pi.run("homeport", "install")
        ended = served.homeport.deploy("by-sudo")
        command = ("sudo", "-n", "/usr/bin/systemctl", "stop", "homeport-upstream@app-blue.service")
        assert pi.run(*command, user="homeport", check=False).returncode != 0
    finally:
        pi.run("sh", "-ec", back)
        pi.run("homeport", "install")
    assert ended["state"] == "succeeded", ended
    served.at_rest("by-sudo")


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "url", ["https://{}", "https://{}:8443/", "http://{}", "http://{}:8080/", "http://127.0.0.1"]
)
def test_nginx_takes_each_kind_of_site(served: Served, url: str, *, there: bool) -> None:
    app = served.homeport.settings["services"]["app"] | {
        "blue_green": {"ports": [9101, 9102], "url": url.format("b.example.org")}
    }
    if "127.0.0.1" in url:
        app["blue_green"]["url"] = "http://localhost/"
    document = {"public_url": url.format("a.example.org"), "services": {"webhook": app}}
    templates = {name: (ROOT / "nginx" / name).read_text() for name in proxy.TEMPLATES}
    given = proxy.Certificate("/etc/ssl/pi.pem", "/etc/ssl/pi.key")
    sites, notes = proxy.sites(configuration.read(document), templates, given, lambda _: there)
    assert (len(sites), notes) == (2, [])
    parts = [site.text for site in sites]
    parts += proxy.first_upstreams(configuration.read(document), lambda _: "", lambda _: False).values()
    served.pi.put("/run/tried.conf", "events {}\nhttp {\n" + "\n".join(parts) + "}\n")
    served.pi.run("nginx", "-t", "-c", "/run/tried.conf")


def test_uninstall_takes_the_agents_site_and_leaves_the_way_to_the_service(served: Served) -> None:
    pi = served.pi
    try:
        said = pi.run("homeport", "uninstall").stdout
        assert pi.run("test", "-e", OWN_SITE, check=False).returncode != 0
        for path in (SITE, UPSTREAM):
            assert f"{path} (users reach a service by it)" in said
        pi.run("systemctl", "restart", "nginx")
        assert served.ask()
    finally:
        pi.run("/opt/homeport/bin/homeport", "install", *NGINX)
    assert pi.get(OWN_SITE)
    assert served.homeport.deploy("again")["state"] == "succeeded"
    served.at_rest("again")
