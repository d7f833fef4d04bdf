"""R-PL-1 in short: the plug is pulled at acts of a deployment, on a real ext4 whose page cache is lost.

The file system is a loop device that is cut off by FS_IOC_GOINGDOWN without flushing its log (M1): what was not
synced is gone. Then every process of the home ends, as in a reboot, the disk is mounted again, and the agent starts.
Needs root; the long count is a matter of `make e2e-long`.
"""

import os

import pytest

from tests.crash.sweep import (
    PHASES,
    a_quick_home_settings,
    check_convergence,
    die_at,
    end_services,
    record_points,
)
from tests.disk import Disk, disk
from tests.world import Home

__all__ = ["disk"]

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


@pytest.mark.parametrize("mode", ["good", "crash"])
def test_whatever_the_power_cut_hits_the_right_version_serves_from_whole_files(disk: Disk, mode: str) -> None:
    """R-PL-1, F1 to F12 as far as they belong to the main job; M1, M2, M3."""
    home = Home(disk.directory / "home", disk=disk.mount_point)
    a_quick_home_settings(home)
    try:
        home.start()
        assert home.deploy("first")["state"] == "succeeded"
        home.stop()
        places = [f"{name}@{phase}" for name in record_points(home, mode) for phase in PHASES]
        before = "first" if mode == "crash" else "recorded-good"
        chosen = places[:: int(os.environ.get("POWER_CUT_STRIDE", "3"))]
        for number, place in enumerate(chosen):
            version = f"{mode}-{number}"
            body = die_at(home, place, mode, version, DYING_HOW="power", DYING_MOUNT=str(disk.mount_point))
            end_services(home)
            disk.unmount()
            disk.mount()
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
