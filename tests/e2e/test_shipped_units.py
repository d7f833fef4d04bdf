"""The units that are shipped, on a Pi: the agent as user homeport behind all that they close, watched by a systemd.

What the files say by themselves is in test_units.py."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.installed import Installed
from tests.meta.sources import ROOT
from tests.world import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

PI = ("--docker-arg", "--network=none")
UNITS = ROOT / "systemd"

DROP_IN = """
[Service]
ReadWritePaths=/srv/app
LoadCredential=webhook-secret:/etc/homeport/credentials/webhook-secret
# Sooner than shipped, so that it can be waited for.
WatchdogSec=3
RestartSec=1
Environment=PYTHONPATH=/opt/boom
"""
BOOM = """
import os, sys, time
if "serve" in sys.orig_argv:
    from agent.services import monitor
    within = monitor.within

    def then_sleep(seconds, doing=""):
        if os.path.exists("/opt/boom/now"):
            time.sleep(3600)
        within(seconds, doing)

    monitor.within = then_sleep
"""
"""A defect that blocks the event loop once the file is there."""
HOOK = """#!/bin/sh
sed 's/^/to a telephone: /'
"""


@pytest.fixture(scope="module")
def shipped(homeport: Installed) -> Installed:
    """The shipped units, with what a user adds to them; a first version is live."""
    pi = homeport.pi
    pi.put("/etc/homeport/credentials/webhook-secret", pi.get("/etc/homeport/webhook-secret"), mode=0o600)
    homeport.settings["github"] = {"webhook_secrets": [{"credential": "webhook-secret"}]}
    homeport.settings["services"]["app"]["deploy"]["build"] = {
        "commands": [
            "nice; id -un; chown root . || echo refused; touch /etc/homeport/x || echo closed; sleep 8"
        ]
    }
    homeport.save()
    pi.put("/opt/boom/sitecustomize.py", BOOM)
    pi.put("/etc/homeport/on-failure", HOOK, mode=0o755)
    pi.put("/etc/systemd/system/homeport-failed.service", (UNITS / "homeport-failed.service").read_text())
    pi.put("/etc/systemd/system/homeport.service.d/10-user.conf", DROP_IN)
    homeport.enable((UNITS / "homeport.service").read_text())
    return homeport


@pytest.fixture
def again(shipped: Installed) -> Iterator[Installed]:
    """What a test has broken is mended, and the limit of starts begins anew."""
    yield shipped
    shipped.pi.run("rm", "-f", "/opt/boom/now")
    shipped.save()
    shipped.pi.run("systemctl", "reset-failed", check=False)
    shipped.pi.run("systemctl", "restart", "homeport")


def shown(homeport: Installed, *properties: str) -> dict[str, str]:
    """What systemd says of the agent."""
    text = homeport.pi.run("systemctl", "show", "homeport", f"--property={','.join(properties)}").stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def test_behind_all_that_it_closes_the_agent_deploys(shipped: Installed) -> None:
    """R-SD-4, R-SD-6: its secret is a credential; a build that is longer than the watchdog waits is not stuck."""
    identity = shipped.push("first")
    wait_for("building", lambda: shown(shipped, "StatusText")["StatusText"] == "1 service; app: building")
    ended = shipped.ended(identity)
    assert ended["state"] == "succeeded", ended
    shipped.healthy()
    told = shipped.pi.run("homeport", "logs", identity).stdout
    for line in ("10", "homeport", "refused", "closed"):
        assert f"\n{line}\n" in told
    assert shown(shipped, "NRestarts", "StatusText", "User") == {
        "NRestarts": "0", "StatusText": "1 service", "User": "homeport",
    }  # fmt: skip
    assert "stuck" not in shipped.pi.journal("homeport.service")


def test_a_reload_says_whether_the_file_was_taken_up(again: Installed) -> None:
    """R-SD-8: if it was not, the agent goes on as it was."""
    pid = shown(again, "MainPID")
    assert again.pi.run("systemctl", "reload", "homeport", check=False).returncode == 0
    again.pi.run("sed", "-i", "s/poll/pole/", "/etc/homeport/config.yaml")
    assert again.pi.run("systemctl", "reload", "homeport", check=False).returncode != 0
    assert "did you mean `poll`" in again.pi.journal("homeport.service")
    assert shown(again, "MainPID", "ActiveState") == pid | {"ActiveState": "active"}
    assert json.dumps(again.get("/health").document).count("degraded") == 1


def test_a_blocked_loop_is_ended_and_started_anew_until_it_is_enough(again: Installed) -> None:
    """F20, R-SD-6, R-SD-9: each time the journal has where it was; at last the alarm goes off, without an agent."""
    before = shown(again, "MainPID")
    again.pi.put("/opt/boom/now", "")
    wait_for("the watchdog", lambda: shown(again, "NRestarts")["NRestarts"] != "0", 60)
    assert shown(again, "MainPID") != before
    wait_for("the end", lambda: shown(again, "ActiveState")["ActiveState"] == "failed", 120)
    log = again.pi.journal("homeport.service")
    assert "Watchdog timeout" in log
    assert "in then_sleep" in log
    assert "Start request repeated too quickly" in log
    wait_for("the alarm", lambda: "to a telephone" in again.pi.journal("homeport-failed.service"))
    told = again.pi.journal("homeport-failed.service", "--priority=err")
    assert "homeport is down on" in told
    assert "watchdog (killed ABRT)" in told
    ended = ("systemctl", "is-failed", "homeport-failed")  # what it prints is there before it has ended
    wait_for("its good end", lambda: again.pi.run(*ended, check=False).stdout.strip() == "inactive")


def test_a_file_that_is_wrong_is_not_tried_again_and_alarms_at_once(again: Installed) -> None:
    """R-SD-9."""
    alarms = again.pi.journal("homeport-failed.service").count("homeport is down on")
    again.pi.run("sed", "-i", "s/poll/pole/", "/etc/homeport/config.yaml")
    assert again.pi.run("systemctl", "restart", "homeport", check=False).returncode != 0
    state = shown(again, "ActiveState", "NRestarts", "ExecMainStatus")
    assert state == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "78"}
    wait_for(
        "the alarm",
        lambda: again.pi.journal("homeport-failed.service").count("homeport is down on") > alarms,
    )
