"""A stranger's services as `docs/run-any-service.md` has them: its own blocks, with a repository and a port of ours."""

import http.client
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from agent.system import configfile
from tests.meta.sources import ROOT
from tests.world import Home

pytestmark = pytest.mark.outside

PAGE = (ROOT / "docs" / "run-any-service.md").read_text(encoding="utf-8")

NODE = """
const http = require("http");
http.createServer((ask, say) => say.end(JSON.stringify({version: "VERSION", node: process.version})))
  .listen(Number(process.env.PORT), "127.0.0.1");
"""

WORKER = """
import pathlib, sqlite3, time
data = sqlite3.connect("data/jobs.db")
data.execute("CREATE TABLE IF NOT EXISTS jobs(done_at REAL)")
while True:
    if "MODE" != "stuck":
        data.execute("INSERT INTO jobs VALUES(?)", (time.time(),))
        data.commit()
    else:
        pathlib.Path("stuck").touch()
    time.sleep(0.05)
"""

SLOW = """#!/usr/bin/env python3
import http.server, os, time
time.sleep(4)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
"""


def block(name: str) -> dict[str, Any]:
    """The service of this name, as the page writes it."""
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        document: Any = configfile.parse(text.encode()).value
        if name in document.get("services", {}):
            service: dict[str, Any] = document["services"][name]
            return service
    raise AssertionError(f"the page has no service {name}")


def a_home(make_home: Callable[..., Home], name: str, **health: Any) -> Home:
    """An agent with this service, and with a test's patience."""
    home = make_home()
    ours = home.settings["services"]["app"]
    service = json.loads(json.dumps(block(name)).replace(str(port_of(name)), str(home.ports["app"])))
    service["source"], service["directory"] = ours["source"], ours["directory"]
    service.setdefault("health", {}).update({"every": "100ms", "soak": "500ms"} | health)
    home.settings["services"]["app"] = service
    home.save()
    checked = home.command("check", str(home.config))
    assert checked.returncode == 0, checked.stdout
    home.start()
    return home


def port_of(name: str) -> int:
    found = re.search(r"127\.0\.0\.1:(\d+)", json.dumps(block(name)))
    return int(found[1]) if found else 0


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no Node.js on this machine")
def test_a_node_service_is_deployed_and_a_second_version_takes_its_place(
    make_home: Callable[..., Home],
) -> None:
    home = a_home(make_home, "web")
    lock = {"name": "web", "version": "1.0.0", "lockfileVersion": 3, "requires": True,
            "packages": {"": {"name": "web", "version": "1.0.0"}}}  # fmt: skip
    files = {
        "package.json": json.dumps({"name": "web", "version": "1.0.0"}),
        "package-lock.json": json.dumps(lock),
    }
    for version in ("one", "two"):
        for name, text in {**files, "server.js": NODE.replace("VERSION", version)}.items():
            home.remotes["app"].write(name, text)
        deployment = home.deploy(version)
        assert (deployment["state"], deployment["reason"]) == ("succeeded", ""), home.command(
            "logs", "app"
        ).stdout
        with closing(http.client.HTTPConnection("127.0.0.1", home.ports["app"], timeout=5)) as connection:
            connection.request("GET", "/")
            assert json.loads(connection.getresponse().read())["version"] == version


def test_a_worker_without_a_port_is_deployed_and_one_that_does_nothing_bounces_back(
    make_home: Callable[..., Home],
) -> None:
    home = a_home(make_home, "worker", timeout="20s")
    for mode, state in (("good", "succeeded"), ("stuck", "rolled_back")):
        home.remotes["app"].write("requirements.txt", "")
        home.remotes["app"].write("worker.py", WORKER.replace("MODE", mode))
        home.settings["services"]["app"]["health"]["timeout"] = "3s" if mode == "stuck" else "20s"
        home.save()
        assert home.command("reload").returncode == 0
        deployment = home.deploy(mode)
        assert deployment["state"] == state, home.command("logs", "app").stdout
    database = home.srv / "app" / "shared" / "data" / "jobs.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as data:
        assert data.execute("SELECT count(*) FROM jobs").fetchone()[0] > 0


def test_one_that_is_slow_to_start_is_waited_for(make_home: Callable[..., Home]) -> None:
    home = a_home(make_home, "slow")
    home.settings["services"]["app"]["runtime"]["environment"] = {"PORT": str(home.ports["app"])}
    home.save()
    assert home.command("reload").returncode == 0
    home.remotes["app"].write("serve", SLOW)
    (home.remotes["app"]._tree / "serve").chmod(0o755)
    deployment = home.deploy("one")
    assert deployment["state"] == "succeeded", home.command("logs", "app").stdout
    assert "healthy after" in next(
        step["detail"] for step in deployment["steps"] if step["name"] == "verifying"
    )
