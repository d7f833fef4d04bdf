"""From a delivery to the first healthy answer of the new version, and what the service's users see meanwhile."""

import hashlib
import hmac
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import webhook
from bench.options import Options
from bench.report import Goal, Report, Table, goal, middle, ratio, show
from tests.world import SECRET, Home, Remote, a_home, free_port, wait_for

NAME = "deploy"
POLL_SECONDS = 0.02

# What people write: no lock, no check of what was fetched, no way back. `gone` also takes a zombie for gone: in some
# containers the first process buries the dead late, and the script should not be blamed for it.
SCRIPT = """\
set -e
gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*Z' "/proc/$1/status"; }
cd "$1/app"
git fetch --quiet origin main
git reset --quiet --hard origin/main
[ -z "$2" ] || "$2" -m pip install --quiet --disable-pip-version-check -r requirements.txt
if [ -f ../pid ]; then
    old=$(cat ../pid)
    kill "$old" || true
    until gone "$old"; do sleep 0.02; done
fi
nohup setsid "$PYTHON" -S -E serve.py >>../app.log 2>&1 </dev/null &
echo $! >../pid
until curl --silent --fail --output /dev/null "http://127.0.0.1:$PORT/health"; do sleep 0.05; done
cat version >>../deployed
"""


@dataclass
class Poller:
    """A user of the service who asks every 20 ms."""

    port: int
    polls: list[tuple[float, float, str]] = field(default_factory=list)
    """Begun, ended, and the version that answered: "" for none."""
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `end`."""
        due = time.perf_counter()
        while not self._over.is_set():
            begun = time.perf_counter()
            version = self._ask()
            self.polls.append((begun, time.perf_counter(), version))
            due = max(due + POLL_SECONDS, time.perf_counter())
            self._over.wait(due - time.perf_counter())

    def end(self) -> None:
        """Stops asking."""
        self._over.set()

    def _ask(self) -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)) as connection:
            with suppress(OSError, http.client.HTTPException, ValueError):
                connection.request("GET", "/health")
                answer = connection.getresponse()
                if answer.status == 200:
                    return str(json.loads(answer.read())["version"])
            return ""

    def first(self, version: str) -> float | None:
        """When this version had answered for the first time."""
        return next((ended for _, ended, found in [*self.polls] if found == version), None)

    def outage(self) -> tuple[float, int]:
        """Seconds from the last good answer before a failed poll to the next good one, summed; failed polls."""
        total, failed, last, down = 0.0, 0, None, False
        for _, ended, version in self.polls:
            if not version:
                failed, down = failed + 1, True
                continue
            if down and last is not None:
                total += ended - last
            last, down = ended, False
        return total, failed


@contextmanager
def polling(port: int) -> Iterator[Poller]:
    """A poller in a thread."""
    poller = Poller(port)
    thread = threading.Thread(target=poller.run, daemon=True)
    thread.start()
    try:
        yield poller
    finally:
        poller.end()
        thread.join()


class Figures:
    """Seconds, by who and what."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, who: str, what: str, value: float) -> None:
        """One measurement."""
        self._taken[who, what].append(value)

    def milliseconds(self, who: str, what: str) -> float | None:
        """The median."""
        found = middle(self._taken[who, what])
        return None if found is None else found * 1000

    def middle(self, who: str, what: str) -> float | None:
        """The median of what is no time."""
        return middle(self._taken[who, what])

    def kinds(self, who: str) -> list[str]:
        """What was measured of it, in the order of its first appearance."""
        return [what for name, what in self._taken if name == who]


@dataclass(frozen=True)
class Site:
    """One way to deploy, ready. `push` commits a version and returns the act that delivers it; `settle` waits
    until nothing of it is under way any more."""

    who: str
    port: int
    push: Callable[[str], Callable[[], None]]
    settle: Callable[[], None]


def run(options: Options) -> Report:
    """In turns: the agent, the plain script, and the script with its `pip install`; at last one bad version."""
    figures = Figures()
    times = options.rounds + 2
    with ExitStack() as stack:
        home = stack.enter_context(a_home(_directory(stack) / "home"))
        sites = [_the_agent(home, figures)]
        if webhook.installed():
            sites += [_script(stack, "script"), _script(stack, "script with pip", pip=True)]
        for number in range(1, times + 1):
            for site in sites:
                _deployed(figures, site, f"v{number}")
        _fall(figures, home)
    return _report(figures, times)


def _directory(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))


def _deployed(figures: Figures, site: Site, version: str) -> None:
    deliver = site.push(version)
    with polling(site.port) as poller:
        wait_for("the old version to be seen", lambda: any(found for *_, found in [*poller.polls]))
        begun = time.perf_counter()
        deliver()
        first = wait_for(f"{version} to answer", lambda: poller.first(version))
        time.sleep(0.5)  # what is restarted once more would be seen
    site.settle()
    outage, failed = poller.outage()
    figures.add(site.who, "first healthy answer", first - begun)
    figures.add(site.who, "outage", outage)
    figures.add(site.who, "failed polls", failed)


def _the_agent(home: Home, figures: Figures) -> Site:
    home.start()
    home.deploy("v0")
    placed: list[str] = []

    def push(version: str) -> Callable[[], None]:
        revision = home.remotes["app"].commit(version)
        return lambda: placed.append(home.deliver(revision).document["deployments"][0]["id"])

    def settle() -> None:
        ended = home.ended(placed[-1])
        assert ended["state"] == "succeeded", ended
        _phases(figures, ended)

    return Site("homeport", home.ports["app"], push, settle)


def _fall(figures: Figures, home: Home) -> None:
    """One version that crashes at its start: how long the service is away until the old one is back."""
    with polling(home.ports["app"]) as poller:
        ended = home.deploy("bad", "crash")
    assert ended["state"] == "rolled_back", ended
    outage, failed = poller.outage()
    figures.add("fall", "outage", outage)
    figures.add("fall", "failed polls", failed)


def _phases(figures: Figures, deployment: dict[str, Any]) -> None:
    for step in deployment["steps"]:
        taken = datetime.fromisoformat(step["finished_at"]) - datetime.fromisoformat(step["started_at"])
        figures.add("phase", str(step["name"]), taken.total_seconds())


def _script(stack: ExitStack, who: str, *, pip: bool = False) -> Site:
    directory = _directory(stack)
    remote = Remote(directory / "git")
    remote.write("requirements.txt", "pip\n")
    remote.commit("v0")
    subprocess.run(["git", "clone", "--quiet", remote.path, directory / "app"], check=True)
    (directory / "app" / "data").mkdir()
    port = free_port()
    script = directory / "deploy.sh"
    script.write_text(f"#!/bin/sh\nPORT={port} PYTHON='{sys.executable}'\nexport PORT PYTHON\n{SCRIPT}")
    script.chmod(0o755)
    interpreter = _environment(directory) if pip else ""
    stack.callback(_end, directory / "pid")
    subprocess.run([script, directory, interpreter], check=True)
    peer = stack.enter_context(webhook.a_webhook(directory, [str(script), str(directory), interpreter]))

    def push(version: str) -> Callable[[], None]:
        remote.commit(version)
        return lambda: _push(peer.port)

    return Site(who, port, push, peer.settle)


def _environment(directory: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    return str(directory / "venv" / "bin" / "python")


def _push(port: int) -> None:
    body = json.dumps({"ref": "refs/heads/main"}).encode()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": signature}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", webhook.PATH, body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()


def _end(pid: Path) -> None:
    with suppress(OSError, ValueError):
        os.kill(int(pid.read_text()), signal.SIGTERM)


def _report(figures: Figures, times: int) -> Report:
    names = ("homeport", "script", "script with pip")
    ours = figures.milliseconds("homeport", "first healthy answer")
    rows = [
        [
            who,
            show(figures.milliseconds(who, "first healthy answer")),
            show(ratio(ours, figures.milliseconds(who, "first healthy answer")), "{:.2f}"),
            show(figures.milliseconds(who, "outage")),
            show(figures.middle(who, "failed polls"), "{:g}"),
        ]
        for who in names
    ]
    columns = (
        "",
        "delivery to first healthy answer (ms)",
        "homeport's ratio to it",
        "outage seen (ms)",
        "failed polls",
    )
    phases = [[what, show(figures.milliseconds("phase", what))] for what in figures.kinds("phase")]
    notes = [
        (
            "homeport's time includes: the durable record, a fresh release beside the old one, a verified backup of the"
            " service's data, and the release read back. The script has none of these and no way back."
        ),
        (
            f"A version that crashes at its start: the old one answers again after an outage of"
            f" {show(figures.milliseconds('fall', 'outage'))} ms, as this poller sees it."
        ),
    ]
    return Report(
        NAME, "Deployments",
        [
            ("A small HTTP service, a local repository, dependencies unchanged; a poller asks every 20 ms over a new"
            f" connection. Median of {times} deployments each, in turns."),
            ("Peer: Debian's `webhook` with a plain script (fetch, reset, restart, curl loop), once without and once"
            " with a `pip install -r` that has nothing to do."),
        ],
        [Table("Seen from outside", columns, rows), Table("homeport's steps (ms)", ("state", "time"), phases)],
        _goals(figures),
        notes if webhook.installed() else [*notes, webhook.MISSING],
    )  # fmt: skip


def _goals(figures: Figures) -> list[Goal]:
    what = "first healthy answer"
    ours = figures.milliseconds("homeport", what)
    with_pip = ratio(ours, figures.milliseconds("script with pip", what))
    plain = ratio(figures.milliseconds("homeport", "outage"), figures.milliseconds("script", "outage"))
    return [
        goal(what, "≤ 0.5 × script with pip", with_pip, "{:.2f} ×", most=0.5),
        goal("outage", "≤ 1.1 × script", plain, "{:.2f} ×", most=1.1),
    ]
