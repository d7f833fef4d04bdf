"""A service that dies at night: the real agent starts it again."""

import os
import signal
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pytest

from agent.cli import install
from agent.cli.client import Client
from tests.world import Home, wait_for

pytestmark = pytest.mark.outside


def test_a_service_that_is_killed_comes_back_and_one_that_cannot_is_held(
    make_home: Callable[..., Home],
) -> None:
    """F67: nobody is woken for what a restart mends, and nobody is spared what it does not."""
    home = make_home()
    home.settings["services"]["app"]["health"] |= {"restarts": 1, "soak": "100ms"}
    home.settings["monitor"] = {"every": "200ms"}
    home.save()
    home.start()
    assert home.deploy("one")["state"] == "succeeded"
    first = home.service()
    assert first is not None
    os.kill(int(first["pid"]), signal.SIGKILL)
    again = wait_for("the service", home.service)
    assert (again["version"], again["pid"] != first["pid"]) == ("one", True)
    wait_for("a healthy agent", lambda: home.get("/health").document["services"]["app"] == "healthy")
    names = [event["name"] for event in home.get("/api/v1/events").document["items"]]
    assert names.count("service.restarted") == 1
    os.kill(int(again["pid"]), signal.SIGKILL)
    hold = wait_for("the hold", lambda: home.get("/status").document["services"]["app"]["hold"], 120)
    assert "still unwell after 1 restart: " in hold["reason"]
    assert home.get("/health").status == 503


def test_on_probation_a_version_that_dies_is_taken_back_and_told_why(make_home: Callable[..., Home]) -> None:
    """R-RB-8."""
    home = make_home()
    home.settings["services"]["app"]["rollback"] = {"probation": "1h"}
    home.settings["monitor"] = {"every": "200ms"}
    home.save()
    home.start()
    good, bad = home.deploy("one"), home.deploy("two")
    assert (good["state"], bad["state"]) == ("succeeded", "succeeded")
    died = home.service()
    assert died is not None
    os.kill(int(died["pid"]), signal.SIGKILL)
    newest = wait_for("the rollback's end", lambda: _newest(home, "probation-failed"))
    assert (newest["state"], newest["trigger"]["kind"]) == ("rolled_back", "poll")
    serves = home.service()
    assert serves is not None
    assert serves["version"] == "one"
    status = home.get("/status").document["services"]["app"]
    assert [item["revision"] for item in status["quarantine"]] == [bad["revision"]]
    assert "probation-failed" in home.command("history", "app").stdout


def _newest(home: Home, reason: str) -> dict[str, Any] | None:
    """The newest deployment, once it has ended so."""
    newest: dict[str, Any] = home.get("/api/v1/deployments").document["items"][0]
    return newest if newest["reason"] == reason and newest["finished_at"] else None


def test_an_installation_with_a_sick_service_says_so_and_is_one(make_home: Callable[..., Home]) -> None:
    """`homeport install` waits for an agent that answers, and does not take its 503 for none."""
    home = make_home()
    home.start()
    home.deploy("one")
    died = home.service()
    assert died is not None
    os.kill(int(died["pid"]), signal.SIGKILL)
    wait_for("a sick agent", lambda: home.get("/health").status == 503)
    assert install.health_now(Client(Namespace(socket=str(home.socket), url=None))) == "unhealthy"
