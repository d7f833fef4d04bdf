"""What systemd is told, on a socket of the test's own."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system import notify


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify._notifier.cache_clear()
        yield listener
    if (notifier := notify._notifier()) is not None:
        notifier.socket.close()
    notify._notifier.cache_clear()


def test_each_word_is_one_message(systemd: socket.socket) -> None:
    notify.ready("1 service")
    notify.status("1 service; app: building")
    notify.alive()
    notify.stopping()
    assert [systemd.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=1 service", b"STATUS=1 service; app: building", b"WATCHDOG=1", b"STOPPING=1",
    ]  # fmt: skip


def test_a_systemd_that_does_not_listen_is_not_waited_for(systemd: socket.socket) -> None:
    """R-MO-2: the socket's queue is full long before."""
    for _ in range(2000):
        notify.alive()
    assert systemd.recv(4096) == b"WATCHDOG=1"


def test_without_a_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify._notifier.cache_clear()
    notify.ready("1 service")
    assert notify._notifier() is None
    notify._notifier.cache_clear()


@pytest.mark.parametrize(
    ("wanted", "whose", "seconds"),
    [
        ("60000000", None, 30.0),
        ("60000000", "mine", 30.0),
        ("60000000", "1", None),
        ("1", "mine", 0.0000005),
        ("0", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_half_of_what_systemd_waits_for_is_the_pace(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, whose: str | None, seconds: float | None
) -> None:
    """R-SD-6: and only if this process is meant."""
    for name, value in (("WATCHDOG_USEC", wanted), ("WATCHDOG_PID", whose)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "mine" else value)
    assert notify.watchdog_seconds() == seconds


@pytest.mark.parametrize("wanted", ["soon", "-5", "1e6", "٣"])
def test_a_number_that_is_none_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wanted: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", wanted)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert notify.watchdog_seconds() is None
    assert "WATCHDOG_USEC" in caplog.text
