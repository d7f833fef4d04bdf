"""What a switch costs the users of a service, as its deployment tells it."""

from collections.abc import Callable

import pytest

from tests.world import Home, wait_for

pytestmark = pytest.mark.outside


def test_each_deployment_tells_the_outage_that_was_seen(make_home: Callable[..., Home]) -> None:
    home = make_home()
    home.start()
    first, second, broken = home.deploy("one"), home.deploy("two"), home.deploy("three", "sick")
    assert first["outage"] is None, "nobody was there to be kept waiting"
    assert second["outage"]["failed"] >= 1
    assert 0 < second["outage"]["seconds"] < 20
    assert broken["state"] == "rolled_back"
    assert broken["outage"]["seconds"] > second["outage"]["seconds"], (
        "the way there, the trial and the way back"
    )
    shown = home.command("history", "app").stdout.splitlines()
    assert "OUTAGE" in shown[0]
    assert f"{second['outage']['seconds']:.2f} s" in shown[2]
    assert f", outage {broken['outage']['seconds']:.2f} s" in home.command("status").stdout
    again = home.post("/deploy", {"service": "app", "force": True}).document["deployment"]["id"]
    assert home.ended(again)["outage"] is not None
    said = home.command("deploy", "app", "--force", "--wait").stdout
    assert "outage: " in said


def test_of_what_was_cut_off_no_half_outage_is_told(make_home: Callable[..., Home]) -> None:
    home = make_home()
    home.settings["services"]["app"]["health"]["soak"] = "2s"
    home.save()
    home.start()
    home.deploy("one")
    home.push("two")
    wait_for("the verification", lambda: _state(home) == "verifying")
    home.kill()
    home.start()
    newest = home.get("/api/v1/deployments").document["items"][0]
    ended = home.ended(newest["id"])
    assert (ended["state"], ended["outage"]) == ("succeeded", None)


def _state(home: Home) -> str:
    return str(home.get("/api/v1/deployments").document["items"][0]["state"])
