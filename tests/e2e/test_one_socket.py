"""A unit whose socket stays open while it restarts, behind nginx: users wait and nobody fails. And without a socket."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.documented import UNIT, Documented
from tests.e2e.pi import Pi
from tests.e2e.test_blue_green import CERTIFICATE, NAME, Served
from tests.meta.sources import ROOT
from tests.outside.test_no_failed_request import TAKES
from tests.world import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PI = ("--docker-arg", "--network=none")
DEPLOYMENTS, ROLLBACKS = (20, 5) if os.environ.get("BLUE_GREEN") == "long" else (5, 2)
TAKES_OR_BINDS = TAKES.replace(
    "server.socket = socket.socket(fileno=3)",
    'server.socket = socket.socket(fileno=3) if "LISTEN_FDS" in os.environ else'
    ' socket.create_server(("127.0.0.1", int(os.environ["PORT"])))',
)
"""The service of the tests, which takes the socket that it is given; without one it listens itself."""
SITE = f"""
server {{
    listen 443 ssl;
    server_name {NAME};
    ssl_certificate /etc/ssl/pi.pem;
    ssl_certificate_key /etc/ssl/pi.key;
    location / {{ proxy_pass http://127.0.0.1:9100; }}
}}
"""


@pytest.fixture(scope="module")
def served(pi: Pi, wheelhouse: Path) -> Served:
    """Installed as the docs say; a first version is live, behind nginx."""
    made = Documented(pi)
    app = made.settings["services"]["app"]
    app["rollback"] = {"max_per_hour": 100}
    app["health"] |= {"restarts": 0}  # it is stopped by hand below, and nobody is to start it meanwhile
    made.install(wheelhouse)
    pi.run("sh", "-ec", CERTIFICATE, "sh", "30")
    pi.put("/etc/nginx/conf.d/app.conf", SITE)
    pi.run("systemctl", "restart", "nginx")
    assert made.deploy("first")["state"] == "succeeded"
    return Served(made)


def changed(served: Served, deployments: int, rollbacks: int) -> list[dict[str, Any]]:
    """So many good versions, then so many that are rolled back by themselves; each as it ended."""
    ended = [served.homeport.deploy(f"v{number}") for number in range(deployments)]
    return ended + [served.homeport.deploy(f"bad{number}", "sick") for number in range(rollbacks)]


def open_socket(served: Served) -> None:
    """The shipped one, for a service that takes it."""
    pi = served.pi
    assert served.homeport.deploy("takes", serve__py=TAKES_OR_BINDS)["state"] == "succeeded"
    text = (ROOT / "systemd" / "example.socket").read_text().replace("example", "app")
    pi.put("/etc/systemd/system/app.socket", text)
    pi.run("systemctl", "daemon-reload")
    pi.run("systemctl", "stop", UNIT)
    pi.run("systemctl", "enable", "--quiet", "--now", "app.socket")
    wait_for("the service", lambda: (served.ask() or {}).get("version") == "takes")


def test_the_doctor_warns_of_a_start_limit_that_would_close_the_socket(served: Served) -> None:
    pi, told = served.pi, "takes app.socket along"
    place = f"/etc/systemd/system/{UNIT}.d/limit.conf"
    pi.put("/etc/systemd/system/app.socket", "[Socket]\nListenStream=127.0.0.1:9199\n")
    pi.run("systemctl", "daemon-reload")
    pi.run("systemctl", "stop", UNIT)
    pi.run("systemctl", "start", "app.socket")
    assert told not in pi.run("/opt/homeport/bin/homeport", "doctor", check=False).stdout
    pi.put(place, "[Unit]\nStartLimitIntervalSec=10\n")
    pi.run("systemctl", "daemon-reload")
    try:
        said = pi.run("/opt/homeport/bin/homeport", "doctor", check=False).stdout
        assert told in said, said
    finally:
        pi.run("systemctl", "stop", "app.socket")
        pi.run("rm", place, "/etc/systemd/system/app.socket")
        pi.run("systemctl", "daemon-reload")
        pi.run("systemctl", "start", UNIT)


def test_behind_one_socket_no_request_is_lost_and_without_it_the_outage_is_told(served: Served) -> None:
    """Over TLS, fifty a second, through nginx. A sick version answers 500 while it is on trial: an answer."""
    with served.users() as seen:
        ended = changed(served, 2, 0)
    assert [item["state"] for item in ended] == ["succeeded"] * 2
    lost = [item for item in seen if item[0] != 200]
    told = [item["outage"]["seconds"] for item in ended]
    print(f"restart: {len(seen)} requests, {len(lost)} lost; told: {told}")
    assert lost
    assert all(seconds > 0 for seconds in told)
    open_socket(served)
    with served.users() as seen:
        ended = changed(served, DEPLOYMENTS, ROLLBACKS)
    assert [item["state"] for item in ended] == ["succeeded"] * DEPLOYMENTS + ["rolled_back"] * ROLLBACKS
    lost = [item for item in seen if item[0] not in (200, 500)]
    slowest = max(item[2] for item in seen)
    print(f"one socket: {len(seen)} requests, {len(lost)} lost, the slowest took {slowest:.2f} s")
    assert lost == []
    assert all(item["outage"]["failed"] == 0 for item in ended[:DEPLOYMENTS]), [
        item["outage"] for item in ended
    ]
