"""homeport as its user installs it: from the wheel, on a Pi without a network, by hand; then under a unit that says
only what each must (Type=notify, its user, KillMode=process). The units that are shipped have tests of their own."""

import os
import random
import re
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installed import OWNER, Installed
from tests.e2e.pi import Pi
from tests.e2e.wheelhouse import build_wheel
from tests.meta.sources import ROOT
from tests.outside.test_demo import ACTS
from tests.world import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]  # the first one on a machine makes the Pi's image

PI = ("--disk", "256:/var/lib/homeport,/srv", "--docker-arg", "--network=none")
"""What the agent and its services keep is on a disk that loses what was not synced."""

CUTS = int(os.environ.get("PI_CUTS", "2"))
SEED = int(os.environ.get("RANDOM_SEED", "1"))

UNIT = """
[Unit]
Description=homeport
StartLimitIntervalSec=0
[Service]
Type=notify
User=homeport
ExecStart=/opt/homeport/bin/homeport serve --config /etc/homeport/config.yaml
KillMode=process
Restart=always
RuntimeDirectory=homeport
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def running(homeport: Installed) -> Installed:
    """Its unit is enabled and active, and a first version is live."""
    # long enough to be met in it; a version may want longer
    homeport.settings["services"]["app"]["deploy"]["build"] = {"commands": ["sleep $(cat slow || echo 1)"]}
    homeport.save()
    homeport.enable(UNIT)
    first = homeport.deploy("first")
    assert first["state"] == "succeeded", first
    return homeport


def _process(homeport: Installed) -> tuple[Any, Any]:
    answer = homeport.service()
    assert answer is not None
    return answer["version"], answer["pid"]


# --- the wheel and the command


def test_the_wheel_holds_every_file_of_the_package_and_the_example(tmp_path: Path) -> None:
    """What git knows, with the example, the units and the sites, no more and no less."""
    listed = subprocess.run(
        ["git", "ls-files", "agent", "examples", "nginx", "systemd"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = {re.sub(r"^(examples|nginx|systemd)/", r"agent/\1/", name) for name in listed.stdout.split()}
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (entry,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
        assert "homeport = agent.__main__:main" in wheel.read(entry).decode()
    assert found == wanted


def test_anybody_can_ask_the_installed_command_for_help(homeport: Installed) -> None:
    told = homeport.pi.run("homeport", "--help", user=OWNER).stdout
    assert {"serve", "demo", "check", "status", "deploy", "rollback", "backup"} <= set(
        re.findall(r"\w+", told)
    )


def test_anybody_can_see_the_demo_without_a_network(homeport: Installed) -> None:
    """All five acts; nothing is left running, and nothing on the disk."""
    shown = homeport.pi.run("homeport", "demo", "--once", user=OWNER, timeout=300).stdout
    for number, title in enumerate(ACTS, 1):
        assert f"Act {number} of 5: {title}" in shown
    assert "All five acts ended as they must" in shown
    root = re.search(r"everything in (\S+)", shown)
    assert root
    assert homeport.pi.run("test", "!", "-e", root[1]).returncode == 0
    assert homeport.pi.run("pgrep", "--uid", OWNER, "--list-full", check=False).stdout == ""


def test_the_shipped_example_of_a_configuration_is_right(homeport: Installed) -> None:
    """With the warning that under a unit another runtime is better."""
    homeport.pi.put("/tmp/config.yaml", (ROOT / "config.example.yaml").read_bytes())
    check = ("homeport", "check", "/tmp/config.yaml")
    assert homeport.pi.run(*check, user=OWNER, check=False).returncode == 78, "its secret is not set yet"
    told = homeport.pi.run("env", "HOMEPORT_WEBHOOK_SECRET=0123456789abcdef", *check, user=OWNER)
    assert "is right: 1 service (scraper)" in told.stdout + told.stderr


# --- under systemd


def test_it_is_active_when_it_can_be_asked(running: Installed) -> None:
    """R-SD-5: systemd waits for the agent's own word; from then on it answers."""
    pi = running.pi
    for _ in range(3):
        pi.run("systemctl", "restart", "homeport")
        assert running.health() in ("healthy", "degraded")
    shown = pi.run("systemctl", "show", "homeport", "--property=ActiveState,SubState,StatusText,User").stdout
    assert set(shown.split("\n")) >= {
        "ActiveState=active",
        "SubState=running",
        "StatusText=1 service",
        "User=homeport",
    }
    running.healthy()
    assert "app" in pi.run("homeport", "status", user=OWNER).stdout


def test_a_port_that_is_taken_fails_the_start_until_it_is_free(running: Installed) -> None:
    """R-SD-5: `systemctl start` says so within 5 s, the journal says why; the service serves on."""
    pi = running.pi
    running.healthy()
    before = _process(running)
    pi.run("systemctl", "stop", "homeport")
    pi.run("systemd-run", "--unit=squatter", "python3", "-m", "http.server", "--bind", "127.0.0.1", "8300")
    wait_for("the squatter", lambda: pi.run("curl", "-s", "127.0.0.1:8300", check=False).returncode == 0)
    began = time.monotonic()
    assert pi.run("systemctl", "start", "homeport", check=False).returncode != 0
    assert time.monotonic() - began < 5
    assert "cannot listen on 127.0.0.1 port 8300" in pi.journal("homeport.service")
    pi.run("systemctl", "stop", "squatter")
    running.healthy()
    assert _process(running) == before


def test_a_restart_of_the_agent_leaves_the_service_running(running: Installed) -> None:
    """The same process before and after, by `systemctl restart` and by SIGKILL."""
    running.healthy()
    before = _process(running)
    with running.watched() as seen:
        running.pi.run("systemctl", "restart", "homeport")
        running.healthy()
        assert _process(running) == before
        running.pi.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "homeport")
        assert _process(running) == before
        wait_for("the next agent", lambda: running.health() == "healthy")
    assert _process(running) == before
    assert len(seen) > 20
    assert set(seen) == {"200"}, "nobody noticed"
    assert running.deploy("after-restart")["state"] == "succeeded", "it is still its own to end"
    assert _process(running)[0] == "after-restart"


def test_a_reboot_brings_the_service_back(running: Installed) -> None:
    running.healthy()
    version, _ = _process(running)
    running.pi.reboot()
    took = running.healthy()
    assert took < 60
    assert _process(running)[0] == version


# --- power cuts, in which the disk loses what was not synced


def test_the_pi_forgets_what_was_not_synced(pi: Pi) -> None:
    """M1: else the tests below would show nothing."""
    pi.run("sh", "-ec", "cd /srv; for name in kept lost; do echo $name > $name; done; sync kept")
    pi.run("sh", "-ec", "echo still > /root/there; echo gone > /run/gone")
    pi.power_cut(lossy=True)
    assert pi.get("/srv/kept") == "kept\n"
    assert pi.run("cat", "/srv/lost", check=False).stdout == ""
    assert pi.get("/root/there") == "still\n"
    assert pi.run("test", "-e", "/run/gone", check=False).returncode == 1


def _cut_and_look(running: Installed, version: str, identity: str) -> None:
    """The plug is pulled; within 60 s the new version is live, and nothing that was kept is gone."""
    before = set(running.starts())
    began = time.monotonic()
    running.pi.power_cut(lossy=True)
    deployment = running.ended(identity)
    running.healthy()
    assert time.monotonic() - began < 60
    assert (deployment["state"], deployment["reason"]) == ("succeeded", "")
    assert _process(running)[0] == version
    assert before <= set(running.starts()), "what the service had committed"
    runs = [item["id"] for item in running.get("/api/v1/deployments").document["items"]]
    assert runs[0] == identity, "it ran once"
    assert "Traceback" not in running.pi.journal("homeport.service")


@pytest.mark.parametrize("state", ["building", "verifying"])
def test_a_power_cut_in_a_deployment_ends_with_the_new_version(running: Installed, state: str) -> None:
    """R-PL-1, F6: also on a disk that lost what was not synced; nobody helps after the boot."""
    running.healthy()
    version = f"cut-while-{state}"
    identity = running.push(version)
    wait_for(state, lambda: running.deployment(identity)["state"] == state)
    _cut_and_look(running, version, identity)


def test_a_power_cut_right_after_the_202_loses_no_delivery(running: Installed) -> None:
    """F1, R-RX-12: while another version is built, so that nothing else brings it to the disk."""
    running.healthy()
    first = running.push("long-built", slow="4")
    wait_for("building", lambda: running.deployment(first)["state"] == "building")
    _cut_and_look(running, "accepted", running.push("accepted", slow="1"))
    assert running.ended(first)["state"] in ("succeeded", "superseded")


def test_power_cuts_at_any_instant_end_with_the_new_version(running: Installed) -> None:
    """R-PL-1, F1: what was answered 202 is carried out. PI_CUTS and RANDOM_SEED change their number and instants."""
    instants = random.Random(SEED)
    for number in range(CUTS):
        running.healthy()
        version = f"cut-{number}"
        identity = running.push(version)
        time.sleep(instants.uniform(0, 3))
        _cut_and_look(running, version, identity)
