"""R-PL-1: the plug is pulled at the acts of a deployment, one after the other, on a real ext4 (`plug.py`).

What was not synced is gone. Then every process of the home ends, as in a reboot, the disk is mounted again, and the
agent starts. Needs root; here every third point has its cut, in `make e2e-long` all of them.
"""

import os

import pytest

from tests.crash.plug import Plug, plug
from tests.crash.sweep import (
    PHASES,
    a_quick_home_settings,
    check_convergence,
    die_at,
    end_services,
    record_points,
)
from tests.world import Home

__all__ = ["plug"]

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


@pytest.mark.parametrize("mode", ["good", "crash"])
def test_whatever_the_power_cut_hits_the_right_version_serves_from_whole_files(plug: Plug, mode: str) -> None:
    """R-PL-1, F1 to F12 as far as they belong to the main job; M1, M2, M3."""
    home = Home(plug.directory / "home", disk=plug.mount_point)
    a_quick_home_settings(home)
    try:
        home.start()
        assert home.deploy("first")["state"] == "succeeded"
        home.stop()
        places = [f"{name}@{phase}" for name in record_points(home, mode) for phase in PHASES]
        before = "first" if mode == "crash" else "recorded-good"
        chosen = places[:: int(os.environ.get("POWER_CUT_STRIDE", "5"))]
        for number, place in enumerate(chosen):
            version = f"{mode}-{number}"
            body = die_at(home, place, mode, version, DYING_HOW="power", DYING_MOUNT=plug.mounts)
            end_services(home)
            plug.plug_in()
            home.start()
            try:
                check_convergence(home, body, mode, version, before)
            except AssertionError as error:
                raise AssertionError(f"after a power cut at {place}: {error}") from error
            before = version if mode == "good" else before
            home.stop()
        print(f"{len(chosen)} power cuts of {len(places)} points, all converged")
    finally:
        home.end()
        end_services(home)
