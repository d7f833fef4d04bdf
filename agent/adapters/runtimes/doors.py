"""The addresses at which a service of the embedded mode is reached, kept open from one version to the next.

The agent binds them and hands them to the service as systemd does (sd_listen_fds(3): descriptors from 3 on, and
LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES). While a version ends and the next one starts, whoever connects waits in the
queue instead of being refused. An agent that did not bind them itself takes a copy from the service that runs, if the
kernel lets it; else this one switch is seen by the users.

Nobody is kept waiting for long: if the service does not run again within a minute, the addresses are closed.
"""

import logging
import os
import socket
import weakref
from collections.abc import Iterable, Sequence

from agent.core.errors import StepFailed
from agent.core.shapes import host_and_port
from agent.system import listening

log = logging.getLogger(__name__)

HOLD_SECONDS = 60.0


class Doors:
    """Of one service; `addresses` are `host:port`. Methods do not block for long."""

    def __init__(self, service: str, addresses: Sequence[str]) -> None:
        self._service = service
        self._addresses = tuple(addresses)
        self._held: dict[str, socket.socket] = {}
        self._dead_since: float | None = None
        weakref.finalize(self, _close, self._held)

    def keep(self, pids: Iterable[int], now: float) -> None:
        """Before the service's processes (`pids`) are ended: what they listen with stays open. `now` is monotonic."""
        self._dead_since = now
        known = list(pids)
        for address in self._addresses:
            if address not in self._held:
                found = listening.taken_from(known, *host_and_port(address))
                if found is not None:
                    self._held[address] = found
                elif known:
                    log.warning("%s: %s cannot be kept open over this switch", self._service, address)

    def open(self) -> list[int]:
        """The descriptors to hand on, in the order of the addresses. Raises runtime-failed if one is taken."""
        self._dead_since = None
        return [self._open(address).fileno() for address in self._addresses]

    def environment(self) -> dict[str, str]:
        """What the service is told of them; LISTEN_PID adds the process itself."""
        if not self._addresses:
            return {}
        names = ":".join(str(host_and_port(address)[1]) for address in self._addresses)
        return {"LISTEN_FDS": str(len(self._addresses)), "LISTEN_FDNAMES": names}

    def seen(self, now: float, *, alive: bool) -> None:
        """Whether the service runs, now and then: who does not come back is not waited for."""
        if alive:
            self._dead_since = None
        elif self._dead_since is None:
            self._dead_since = now
        elif now - self._dead_since > HOLD_SECONDS:
            _close(self._held)

    def _open(self, address: str) -> socket.socket:
        held = self._held.get(address)
        if held is not None and listening.listens(held):
            return held
        if held is not None:  # the version before shut it down for everybody who shares it
            held.close()
        try:
            self._held[address] = made = listening.bind(*host_and_port(address))
        except OSError as error:
            self._held.pop(address, None)
            text = f"{self._service}: cannot listen at {address}: {os.strerror(error.errno or 0)}"
            raise StepFailed("runtime-failed", text) from error
        return made


def _close(held: dict[str, socket.socket]) -> None:
    for one in held.values():
        one.close()
    held.clear()
