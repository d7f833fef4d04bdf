"""R-MO-7: what the doctor makes of what was looked at."""

from typing import Any

import pytest
from msgspec import structs

from agent.core import checkup
from agent.core.checkup import MIB, Level
from agent.core.upgrading import Phase
from tests.core.test_upgrading import MARK


@pytest.mark.parametrize(
    ("found", "level"),
    [
        ({}, Level.WARNING),
        ({"LoadState": "loaded", "Id": "a.service", "ActiveState": "active"}, Level.OK),
        ({"LoadState": "loaded", "Id": "b.service"}, Level.ERROR),
        ({"LoadState": "loaded", "Id": "a.service", "NeedDaemonReload": "yes"}, Level.WARNING),
        ({"LoadState": "loaded", "Id": "a.service", "ActiveState": "failed"}, Level.WARNING),
        ({"LoadState": "masked"}, Level.ERROR),
        ({"LoadState": "not-found"}, Level.ERROR),
        ({"LoadState": "bad-setting"}, Level.ERROR),
    ],
)
def test_a_unit_must_be_there_under_its_own_name(found: dict[str, str], level: Level) -> None:
    assert checkup.of_unit("a.service", found).level is level


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({}, Level.WARNING),
        ({"StartLimitIntervalUSec": "0"}, Level.OK),
        ({"StartLimitBurst": "0"}, Level.OK),
        ({"TriggeredBy": "a.timer"}, Level.OK),
        ({"TriggeredBy": ""}, Level.OK),
    ],
)
def test_a_start_limit_that_would_close_a_socket_is_told(changed: dict[str, str], level: Level) -> None:
    """The values are as `systemctl show` writes them."""
    found = {
        "LoadState": "loaded", "Id": "a.service", "ActiveState": "active", "TriggeredBy": "a.timer a.socket",
        "StartLimitIntervalUSec": "10s", "StartLimitBurst": "5",
    } | changed  # fmt: skip
    check = checkup.of_unit("a.service", found)
    assert check.level is level
    assert ("takes a.socket along" in check.says) is (level is Level.WARNING)


def test_rights_are_what_is_answered_and_not_what_was_written() -> None:
    assert checkup.of_rights("polkit", []).level is Level.OK
    silent = checkup.of_rights("polkit", ["restart a.service"], "Error checking for authorization")
    assert silent.level is Level.ERROR
    assert "does not answer" in silent.says
    refused = checkup.of_rights("sudo", ["restart a.service", "start b.service"])
    assert refused.level is Level.ERROR
    assert "restart a.service, start b.service" in refused.says


def test_an_agent_that_nobody_starts_with_the_machine_is_an_error() -> None:
    assert [checkup.of_boot(enabled=each).level for each in (True, False)] == [Level.OK, Level.ERROR]


@pytest.mark.parametrize(
    ("bytes_", "inodes", "level"),
    [
        (1024 * MIB, None, Level.OK),
        (1024 * MIB, 100_000, Level.OK),
        (100 * MIB, 100_000, Level.WARNING),
        (1024 * MIB, 1000, Level.WARNING),
        (10 * MIB, 100_000, Level.ERROR),
        (1024 * MIB, 10, Level.ERROR),
    ],
)
def test_space_is_bytes_and_inodes(bytes_: int, inodes: int | None, level: Level) -> None:
    assert checkup.of_space("/srv", bytes_, inodes).level is level


@pytest.mark.parametrize(
    ("owner", "mode", "key", "level"),
    [
        ("root", 0o600, False, Level.OK),
        ("root", 0o640, False, Level.OK),
        ("root", 0o644, False, Level.ERROR),
        ("root", 0o602, False, Level.ERROR),
        ("root", 0o640, True, Level.ERROR),
        ("root", 0o600, True, Level.OK),
        ("pi", 0o600, False, Level.WARNING),
    ],
)
def test_a_secret_is_not_open_to_others(owner: str, mode: int, key: bool, level: Level) -> None:
    assert checkup.of_secret_file("/etc/x", owner, mode, key=key).level is level


@pytest.mark.parametrize(
    ("phase", "version", "level"),
    [
        (Phase.CONFIRMED, "0.2.0", Level.OK),
        (Phase.RETURNED, "0.1.0", Level.WARNING),
        (Phase.STAYED, "0.2.0", Level.ERROR),
        (Phase.FAILED, "0.1.0", Level.ERROR),
        (Phase.RETURNED, "0.3.0", Level.OK),
    ],
)
def test_how_the_last_upgrade_ended_is_told_while_it_concerns_what_runs(
    phase: Phase, version: str, level: Level
) -> None:
    assert checkup.of_upgrade(None, structs.replace(MARK, phase=phase), version).level is level


def test_an_upgrade_that_has_not_ended_is_told() -> None:
    found = checkup.of_upgrade(MARK, structs.replace(MARK, phase=Phase.CONFIRMED), "0.1.0")
    assert found.level is Level.WARNING
    assert "from 0.1.0 to 0.2.0 has not ended: prepared" in found.says
    assert checkup.of_upgrade(None, None, "0.1.0").level is Level.OK


def test_what_cannot_be_told_is_never_ok() -> None:
    assert checkup.of_clock("").level is Level.WARNING
    assert checkup.of_clock("no").level is Level.WARNING
    assert checkup.of_clock("yes").level is Level.OK


def test_little_memory_is_told() -> None:
    assert checkup.of_memory(20 * MIB).level is Level.WARNING
    assert checkup.of_memory(200 * MIB).level is Level.OK


def test_a_kernel_that_counts_no_memory_is_told() -> None:
    assert checkup.of_counting(counted=False).level is Level.WARNING
    assert "cmdline.txt" in checkup.of_counting(counted=False).hint
    assert checkup.of_counting(counted=True).level is Level.OK


def test_backups_on_the_disk_of_their_data_are_told() -> None:
    assert checkup.of_backups("a", same_disk=True).level is Level.WARNING
    assert checkup.of_backups("a", same_disk=False).level is Level.OK


@pytest.mark.parametrize(
    ("service", "level", "word"),
    [
        ({"health": "healthy"}, Level.OK, "healthy"),
        ({"health": "held", "hold": {"reason": "two rollbacks"}}, Level.WARNING, "two rollbacks"),
        (
            {"health": "healthy", "current": {"id": "d1", "state": "verifying"}},
            Level.WARNING,
            "not confirmed",
        ),
        ({"health": "healthy", "current": {"id": "d1", "state": "queued"}}, Level.OK, "d1"),
        ({"health": "none", "last": {"id": "d1", "state": "broken"}}, Level.ERROR, "d1"),
        ({"health": "unhealthy", "health_detail": "http 500"}, Level.ERROR, "http 500"),
        ({"health": "healthy", "last": {"id": "d1", "state": "rolled_back"}}, Level.OK, "healthy"),
    ],
)
def test_holds_and_deployments_that_are_not_confirmed_are_told(
    service: dict[str, Any], level: Level, word: str
) -> None:
    (check,) = checkup.of_status({"a": service})
    assert check.level is level
    assert word in check.says


def test_whatever_is_not_ok_says_what_to_do() -> None:
    for check in (
        checkup.of_unit("a.service", {"LoadState": "masked"}),
        checkup.of_space("/srv", 0, 0),
        checkup.of_secret_file("/etc/x", "root", 0o644, key=False),
        checkup.of_clock("no"),
        checkup.of_memory(0),
        checkup.of_backups("a", same_disk=True),
    ):
        assert check.hint


@pytest.mark.parametrize(
    ("written", "hours", "deployed", "level"),
    [
        (None, 24, False, Level.WARNING),
        (19 * MIB, 24, False, Level.OK),
        (21 * MIB, 24, False, Level.WARNING),
        (900 * MIB, 24, True, Level.OK),
        (MIB, 0.9, False, Level.OK),
        (MIB, 1, False, Level.WARNING),
    ],
)
def test_at_rest_the_agent_has_a_budget_of_writes(
    written: int | None, hours: float, deployed: bool, level: Level
) -> None:
    """R-PL-8: 20 MB a day; of less than an hour nothing is made."""
    assert checkup.of_own_writes(written, hours * 3600, deployed=deployed).level is level


@pytest.mark.parametrize(
    ("gigabytes", "days", "level"),
    [(None, 1, Level.WARNING), (3.9, 1, Level.OK), (4.1, 1, Level.WARNING), (1, 0.01, Level.OK)],
)
def test_a_disk_that_is_written_to_all_day_is_told(
    gigabytes: float | None, days: float, level: Level
) -> None:
    written = None if gigabytes is None else int(gigabytes * (1 << 30))
    assert checkup.of_disk_writes("/var", written, days * 86400).level is level


@pytest.mark.parametrize(
    ("written", "seconds", "says"),
    [
        (100, 60, "less than 1M in 1 minutes"),
        (5 * MIB + 7, 7200, "5M in 2 hours"),
        (3 << 30, 3 * 86400, "3G in 3 days"),
    ],
)
def test_writes_are_said_in_round_figures(written: int, seconds: float, says: str) -> None:
    assert checkup.of_disk_writes("/var", written, seconds).says == says


def test_nginx_must_know_whom_it_serves_and_take_its_configuration() -> None:
    assert checkup.of_upstream("/x", "blue").level is Level.OK
    assert checkup.of_upstream("/x", None).level is Level.ERROR
    assert checkup.of_users("https://a/", "").level is Level.OK
    assert checkup.of_users("https://a/", "the certificate is not valid").level is Level.ERROR
    assert checkup.of_colour("app@blue.service", "enabled").level is Level.OK
    assert "systemctl enable app@blue" in checkup.of_colour("app@blue.service", "disabled").hint
    assert checkup.of_nginx(0, "").level is Level.OK
    assert checkup.of_nginx(1, "unknown directive").level is Level.ERROR
