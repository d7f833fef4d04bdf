"""Tells systemd how the agent is doing, where there is a systemd that listens (NOTIFY_SOCKET)."""

from functools import cache

from sdnotify import SystemdNotifier


@cache
def _notifier() -> SystemdNotifier:
    return SystemdNotifier()


def ready(status: str) -> None:
    """The agent can be asked now."""
    _notifier().notify(f"READY=1\nSTATUS={status}")


def stopping() -> None:
    """The agent is on its way out."""
    _notifier().notify("STOPPING=1")
