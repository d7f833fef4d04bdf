"""Tells systemd how the agent is doing, where there is a systemd that listens (NOTIFY_SOCKET).

Never waits: what the socket does not take at once is lost. Of that which is said again and again nothing is missed.
"""

import logging
import os
from functools import cache

from sdnotify import SystemdNotifier

log = logging.getLogger(__name__)


def ready(status: str) -> None:
    """The agent can be asked now."""
    _say(f"READY=1\nSTATUS={status}")


def status(text: str) -> None:
    """What goes on, for `systemctl status`."""
    _say(f"STATUS={text}")


def alive() -> None:
    """All is well."""
    _say("WATCHDOG=1")


def stopping() -> None:
    """The agent is on its way out."""
    _say("STOPPING=1")


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear that all is well: half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises. None:
    never, or another process is meant (WATCHDOG_PID)."""
    wanted, whose = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not wanted or (whose is not None and whose != str(os.getpid())):
        return None
    if not wanted.isascii() or not wanted.isdigit() or int(wanted) == 0:
        log.warning("WATCHDOG_USEC is no number of microseconds: %.40r", wanted)
        return None
    return int(wanted) / 2_000_000


@cache
def _notifier() -> SystemdNotifier | None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None  # the library would open a socket, and leave it
    notifier = SystemdNotifier()
    if notifier.socket is not None:
        notifier.socket.setblocking(False)
    return notifier


def _say(message: str) -> None:
    if (notifier := _notifier()) is not None:
        notifier.notify(message)
