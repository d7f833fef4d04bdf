"""A real disk that runs full under a running agent, and has space again later. Needs root: it mounts an ext4."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.disk import Disk, disk
from tests.world import Home, wait_for

__all__ = ["disk"]

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

MEBIBYTE = 1 << 20


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


def test_on_a_full_disk_a_delivery_is_503_and_its_redelivery_lands_when_there_is_space(
    disk: Disk, home: Home
) -> None:
    """F23 without the ballast, R-RX-27: nothing is promised that is not on the disk; the service keeps serving, also
    through a restart of the agent while there is no space."""
    before = home.service()
    filler = disk.fill()
    revision = home.remotes["app"].commit("two")
    accepted, refused = _deliver_until_refused(home, revision)
    told = home.get("/health")
    assert (told.status, told.document["status"]) == (200, "degraded")
    assert "the state cannot be written: database or disk is full" in home.command("status").stdout
    assert home.stop() == 0
    home.start()
    assert home.service() == before, "the very same process"
    filler.unlink()
    for body in accepted:
        assert home.deliver(revision, body=body).document["decision"] == "duplicate"
    answer = home.deliver(revision, body=refused)
    assert (answer.status, answer.document["decision"]) == (202, "deploy")
    assert home.ended(answer.document["deployments"][0]["id"])["state"] == "succeeded"
    assert home.service()["version"] == "two"  # type: ignore[index]
    assert home.get("/health").document["status"] == "healthy"


def _deliver_until_refused(home: Home, revision: str) -> tuple[list[bytes], bytes]:
    """What was promised while the log of the state still had room, and the first body that was not."""
    accepted: list[bytes] = []
    for number in range(500):
        body = home.push_body(revision) + b" " * number
        answer = home.deliver(revision, body=body)
        if answer.status != 202:
            assert (answer.status, answer.document["code"]) == (503, "store-unavailable")
            return accepted, body
        accepted.append(body)
    raise AssertionError("five hundred deliveries found room on a full disk")


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
    home.kill()
    for session in home.sessions():
        os.killpg(session, signal.SIGKILL)
    wait_for("the end of everything", lambda: not home.sessions())
    disk.unmount()
    disk.mount()
    home.start()
    assert home.deploy("two")["state"] == "succeeded"
