"""A real disk that runs full under a running agent, and has space again later. Needs root: it mounts an ext4."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.disk import Disk, disk
from tests.world import Home, wait_for

__all__ = ["disk"]

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

MEBIBYTE = 1 << 20
PIECES = {str(number) for number in range(8)}


@pytest.fixture
def home(disk: Disk) -> Iterator[Home]:
    """One good version is live; state, backups, releases and data lie on the small disk."""
    made = Home(disk.directory / "home", disk=disk.mount_point)
    try:
        made.start()
        assert made.deploy("one")["state"] == "succeeded"
        yield made
    finally:
        made.end()
        wait_for("the end of everything", lambda: not made.sessions())


def ballast(home: Home) -> set[str]:
    """What is left of it."""
    return {place.name for place in (home.state / "ballast").iterdir()}


def trouble(home: Home) -> str:
    """What /status says of it."""
    return str(home.get("/status").document["agent"]["trouble"])


def well(home: Home) -> bool:
    """Whether the agent found by itself that all is well again."""
    return home.get("/health").document["status"] == "healthy" and ballast(home) == PIECES


def test_the_ballast_is_there_from_the_start_on_and_takes_what_it_says(home: Home) -> None:
    """F23, M9: a file with holes would be none."""
    assert ballast(home) == PIECES
    assert all((home.state / "ballast" / name).stat().st_blocks * 512 >= MEBIBYTE for name in PIECES)


def test_on_a_full_disk_a_delivery_is_503_and_its_redelivery_lands_when_there_is_space(
    disk: Disk, home: Home
) -> None:
    """F23, R-RX-27: nothing is promised that is not on the disk; the service keeps serving, also through a restart of
    the agent while there is no space; a person is refused as well, and is told what is free and what is needed."""
    before = home.service()
    filler = disk.fill()
    revision = home.remotes["app"].commit("two")
    accepted, refused = _deliver_until_refused(home, revision)
    told = home.get("/health")
    assert (told.status, told.document["status"]) == (200, "degraded")
    assert "0 MiB are free at" in home.command("status").stdout
    by_hand = home.command("deploy", "--force")
    assert by_hand.returncode == 75
    assert "0 MiB are free at" in by_hand.stderr
    assert home.stop() == 0
    home.start()
    assert home.service() == before, "the very same process"
    assert home.deliver(revision, body=refused).status == 503
    filler.unlink()
    wait_for("the ballast", lambda: well(home))
    for body in accepted:
        assert home.deliver(revision, body=body).document["decision"] == "duplicate"
    answer = home.deliver(revision, body=refused)
    assert (answer.status, answer.document["decision"]) == (202, "deploy")
    assert home.ended(answer.document["deployments"][0]["id"])["state"] == "succeeded"
    assert home.service()["version"] == "two"  # type: ignore[index]


def _deliver_until_refused(home: Home, revision: str) -> tuple[list[bytes], bytes]:
    """What was promised while the log of the state still had room, and the first body that was not."""
    accepted: list[bytes] = []
    for number in range(500):
        body = home.push_body(revision) + b" " * number
        answer = home.deliver(revision, body=body)
        if answer.status != 202:
            assert (answer.status, answer.document["code"]) == (503, "space-low")
            return accepted, body
        accepted.append(body)
    raise AssertionError("five hundred deliveries found room on a full disk")


def _hold_builds(home: Home) -> Path:
    """Builds wait until this file is there."""
    go_on = home.directory / "go-on"
    home.settings["services"]["app"]["deploy"]["build"] = {
        "commands": [f"until [ -e {go_on} ]; do sleep 0.05; done"]
    }
    home.save()
    assert home.command("reload").returncode == 0
    return go_on


def _hold_verdicts(home: Home) -> Path:
    """What follows on the live revision is watched until this file is there, or until it dies."""
    go_on, live = (
        home.directory / "go-on",
        home.get("/status").document["services"]["app"]["live"]["revision"],
    )
    health = home.settings["services"]["app"]["health"]
    command = f"[ -e {go_on} ] || [ $HOMEPORT_REVISION = {live} ]"
    health |= {"timeout": "120s", "probes": [*health["probes"], {"kind": "command", "command": command}]}
    home.save()
    assert home.command("reload").returncode == 0
    return go_on


def _answers(home: Home, version: str) -> dict[str, Any]:
    """What the service says once it is this version."""
    found: dict[str, Any] = wait_for(
        version, lambda: (said := home.service()) is not None and said["version"] == version and said
    )
    return found


def _in_state(home: Home, identity: str, state: str) -> None:
    wait_for(state, lambda: home.deployment(identity)["state"] == state)


def test_a_disk_that_fills_during_a_build_ends_it_and_what_waits_goes_on_by_itself(
    disk: Disk, home: Home
) -> None:
    """F22, F23, R-RB-6: the end of what was begun is recorded with the ballast; the old version serves, and nobody is
    blamed. What was accepted waits, which nobody set and nobody has to take away."""
    before = home.service()
    go_on = _hold_builds(home)
    running = home.push("two")
    _in_state(home, running, "building")
    filler = disk.fill()
    accepted, _ = _deliver_until_refused(home, home.remotes["app"].commit("three"))
    go_on.touch()
    ended = home.ended(running)
    assert (ended["state"], ended["reason"], ended["fault"]) == ("failed", "disk-full", "world")
    assert ballast(home) < PIECES
    waiting = home.get("/status").document["services"]["app"]
    if accepted:
        assert waiting["current"]["state"] == "queued"
    assert (waiting["hold"], waiting["quarantine"]) == (None, [])
    assert home.service() == before, "the very same process"
    filler.unlink()
    wait_for("the ballast", lambda: well(home))
    if not accepted:
        home.deliver("a" * 40)
    _answers(home, "three")
    names = [event["name"] for event in home.get("/api/v1/events?limit=200").document["items"]]
    assert {"space.low", "space.back"} <= set(names)


def test_a_disk_that_fills_while_a_version_is_watched_does_not_keep_it_from_succeeding(
    disk: Disk, home: Home
) -> None:
    """F23: its end is recorded."""
    go_on = _hold_verdicts(home)
    running = home.push("two")
    _answers(home, "two")
    filler = disk.fill()
    _deliver_until_refused(home, "a" * 40)
    go_on.touch()
    assert home.ended(running)["state"] == "succeeded"
    filler.unlink()
    wait_for("the ballast", lambda: well(home))


def test_a_rollback_on_a_full_disk_brings_the_old_version_back(disk: Disk, home: Home) -> None:
    """F23: to start it needs its record, and its own database a little; the ballast has that."""
    _hold_verdicts(home)
    running = home.push("two")
    pid = _answers(home, "two")["pid"]
    filler = disk.fill()
    os.kill(pid, signal.SIGKILL)
    assert home.ended(running)["state"] == "rolled_back"
    assert home.service()["version"] == "one"  # type: ignore[index]
    assert home.starts() == ["one", "two", "one"]
    filler.unlink()
    wait_for("the ballast", lambda: well(home))


def test_below_the_floor_of_free_space_nothing_is_begun_and_nobody_is_blamed(disk: Disk, home: Home) -> None:
    """F22, R-RB-6: the same delivery deploys when there is space again."""
    before = home.service()
    filler = disk.fill(leave=30 * MEBIBYTE)
    revision = home.remotes["app"].commit("two")
    body = home.push_body(revision)
    answer = home.deliver(revision, body=body)
    assert answer.status == 202
    ended = home.ended(answer.document["deployments"][0]["id"])
    assert (ended["state"], ended["reason"], ended["fault"]) == ("failed", "disk-full", "world")
    assert home.service() == before, "the very same process"
    assert home.get("/status").document["services"]["app"]["quarantine"] == []
    filler.unlink()
    again = home.deliver(revision, body=body)
    assert (again.status, again.document["decision"]) == (202, "deploy")
    assert home.ended(again.document["deployments"][0]["id"])["state"] == "succeeded"


def test_a_backup_on_a_full_disk_fails_and_leaves_the_others_whole(disk: Disk, home: Home) -> None:
    """F21."""
    made = home.command("backup", "create", "app")
    assert made.returncode == 0, made.stderr
    before = home.get("/api/v1/backups").document["items"]
    filler = disk.fill()
    refused = home.command("backup", "create", "app")
    assert refused.returncode != 0
    filler.unlink()
    after = home.get("/api/v1/backups").document["items"]
    assert [item["id"] for item in after] == [item["id"] for item in before]
    for item in after:
        assert home.command("backup", "verify", item["id"]).returncode == 0
    assert home.command("backup", "create", "app").returncode == 0


def test_on_a_full_disk_a_restore_is_refused_before_anything_is_touched_and_pruning_still_works(
    disk: Disk, home: Home
) -> None:
    """F21, F87, M9: what makes room must not need any."""
    made = home.command("backup", "create", "app", "--json")
    assert made.returncode == 0, made.stderr
    newest = home.get("/api/v1/backups").document["items"][0]["id"]
    before = home.service()
    filler = disk.fill()
    _deliver_until_refused(home, "a" * 40)
    assert home.command("backup", "restore", newest).returncode != 0
    assert home.service() == before, "the very same process"
    home.settings["services"]["app"]["backup"]["keep"] = {"last": 1}
    home.save()
    assert home.command("reload").returncode == 0
    assert home.command("backup", "prune").returncode == 0
    assert home.command("backup", "verify", newest).returncode == 0
    filler.unlink()
    wait_for("the ballast", lambda: well(home))
    assert home.command("backup", "restore", newest).returncode == 0
    assert home.service()["version"] == "one"  # type: ignore[index]


def test_without_inodes_the_message_says_so_and_the_agent_starts_with_those_of_the_ballast(
    disk: Disk, home: Home
) -> None:
    """F25: bytes are free, and `df` shows them. SQLite makes two files when it opens the state."""
    before = home.service()
    filler = disk.fill_inodes()
    refused = home.ended(home.push("two"))
    assert (refused["state"], refused["reason"]) == ("failed", "disk-full")
    assert "inodes are free" in refused["steps"][-1]["detail"]
    backup = home.command("backup", "create", "app")
    assert backup.returncode != 0
    assert "inodes" in backup.stderr
    assert home.stop() == 0
    home.start()
    assert "inodes are free at" in trouble(home)
    answer = home.deliver("a" * 40)
    assert (answer.status, answer.document["code"]) == (503, "space-low")
    assert "inodes" in answer.document["detail"]
    assert home.service() == before, "the very same process"
    shutil.rmtree(filler)
    wait_for("the ballast", lambda: well(home))
    assert home.deploy("three")["state"] == "succeeded"


def test_a_disk_that_turns_read_only_during_a_build_is_waited_for_and_the_deployment_ends_after_the_repair(
    disk: Disk, home: Home
) -> None:
    """F26: no traceback, no flood; what had been begun goes on with the next start."""
    go_on = _hold_builds(home)
    before = home.service()
    running = home.push("two")
    _in_state(home, running, "building")
    lines = len(home.log.read_text().splitlines())
    disk.fail()
    go_on.touch()
    wait_for("the trouble", lambda: home.get("/health").document["status"] == "degraded")
    for _ in range(20):
        assert home.deliver("a" * 40).status == 503
    assert home.service() == before, "the very same process"
    assert len(home.log.read_text().splitlines()) - lines < 30
    assert "Traceback" not in home.log.read_text()
    _repair(disk, home)
    home.start()
    assert home.ended(running)["state"] == "succeeded"


def _repair(disk: Disk, home: Home) -> None:
    """As a reboot with a file system check does."""
    home.kill()
    for session in home.sessions():
        os.killpg(session, signal.SIGKILL)
    wait_for("the end of everything", lambda: not home.sessions())
    disk.unmount()
    disk.mount()


def test_a_disk_that_turned_read_only_is_503_and_serves_on_and_is_taken_up_after_a_repair(
    disk: Disk, home: Home
) -> None:
    """F26 without the alert: as ext4 does on its own errors; the service and /health go on, the log is not flooded."""
    before = home.service()
    disk.fail()
    for _ in range(20):
        answer = home.deliver("a" * 40)
        assert (answer.status, answer.document["code"]) == (503, "store-unavailable")
    told = home.get("/health")
    assert (told.status, told.document["status"]) == (200, "degraded")
    assert home.service() == before
    assert len(home.log.read_text().splitlines()) < 100
    assert "Traceback" not in home.log.read_text()
    _repair(disk, home)
    home.start()
    assert home.deploy("two")["state"] == "succeeded"
