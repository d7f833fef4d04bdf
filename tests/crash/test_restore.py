"""F13: the real agent dies at every act of a restore in place, by SIGKILL and by power cuts on a real ext4.

The next start finds the old data or the new, whole; nobody ever sees a half.
"""

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.crash.plug import Plug, plug
from tests.crash.sweep import PHASES, a_quick_home_settings, end_services, start_watched
from tests.world import Home, wait_for

__all__ = ["plug"]

ENDS = ("restore.done", "restore.failed")


def prepare(home: Home) -> str:
    """A live version, a backup of two rows, and a third row since; the agent is stopped. Returns the backup's id."""
    a_quick_home_settings(home)
    home.settings["services"]["app"]["backup"]["keep"] = {"last": 1000}
    home.save()
    home.start()
    home.deploy("one")
    home.deploy("two")
    backup = str(home.deploy("three")["backup"])
    home.stop()
    return backup


def asked(home: Home, backup: str) -> "subprocess.CompletedProcess[str]":
    return home.command("backup", "restore", backup)


def recorded(home: Home, backup: str) -> list[str]:
    """Every act of a restore, in order, in each phase."""
    names = start_watched(home)
    before = len(names.read_text().splitlines())
    assert asked(home, backup).returncode == 0
    passed = names.read_text().splitlines()[before:]
    home.stop()
    places = list(dict.fromkeys(line for line in passed if "journal.claim" not in line))
    for needed in ("store.lay_out", "place.swap", "runtime.stop", "runtime.start", "restorerows.advance"):
        assert any(needed in place for place in places), (needed, places)
    return [f"{place}@{phase}" for place in places for phase in PHASES]


def last_event(home: Home) -> str:
    """Of the last restore (the recorded one came to its end)."""
    events = home.get("/api/v1/events?limit=50").document["items"]
    return next(str(event["name"]) for event in events if event["name"].startswith("restore."))


def check(home: Home, before: list[str]) -> str:
    """After the next start: one end, old rows or new ones, nothing left. A reboot starts the service once more."""
    end: str = wait_for("its end", lambda: last_event(home) in ENDS and last_event(home))
    assert wait_for("the service", home.service)["version"] == "three"
    rows = home.starts()
    dropped = rows in (before, [*before, "three"])
    finished = rows[:2] == ["one", "two"] and set(rows[2:]) == {"three"} and len(rows) <= 5
    assert dropped or finished, (before, rows)
    assert finished or end == "restore.failed" or before == rows
    wait_for("nothing to be left", lambda: not left_over(home))
    return end


def left_over(home: Home) -> list[str]:
    """What is staged, anywhere. (`os.walk` does not mind what vanishes meanwhile.)"""
    found = [name for _, inside, files in os.walk(home.srv / "app" / "shared") for name in (*inside, *files)]
    return [name for name in found if ".partial" in name]


@pytest.mark.outside
@pytest.mark.timeout(900)
def test_killed_at_every_act_of_a_restore_the_data_is_old_or_new(make_home: Callable[..., Home]) -> None:
    """R-BK-7, F13."""
    home = make_home()
    backup = prepare(home)
    recorded(home, backup)
    ends = set()
    for place in recorded(
        home, backup
    ):  # each start tidies after the restore before it: the first one had none
        before = home.starts()
        start_watched(home, DYING_AT=place, DYING_HOW="kill")
        asked(home, backup)
        home.died(20)
        home.start()
        try:
            ends.add(check(home, before))
        except AssertionError as error:
            raise AssertionError(f"after a kill at {place}: {error}") from error
        home.stop()
    assert ends == set(ENDS)


@pytest.mark.root
@pytest.mark.timeout(900)
def test_whatever_a_power_cut_hits_the_data_is_old_or_new(plug: Plug) -> None:
    """R-BK-7, F13: what was not synced is gone, and the machine starts anew."""
    home = Home(plug.directory / "home", disk=plug.mount_point)
    try:
        backup = prepare(home)
        recorded(home, backup)
        ends = set()
        for place in recorded(home, backup)[:: int(os.environ.get("POWER_CUT_STRIDE", "4"))]:
            before = home.starts()
            start_watched(home, DYING_AT=place, DYING_HOW="power", DYING_MOUNT=plug.mounts)
            asked(home, backup)
            home.died(20)
            end_services(home)
            plug.plug_in()
            home.start()
            try:
                ends.add(check(home, before))
            except AssertionError as error:
                raise AssertionError(f"after a power cut at {place}: {error}") from error
            home.stop()
        assert ends == set(ENDS)
    finally:
        home.end()
        end_services(home)
