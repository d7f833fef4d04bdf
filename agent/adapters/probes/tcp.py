"""A port that must take connections: one is made and closed again, nothing is sent."""

import asyncio

from agent.adapters.probes.surroundings import Surroundings
from agent.core import settings
from agent.core.model import Launch, Probed
from agent.core.text import clean
from agent.system import sockets


class TcpProbe:
    """`core.ports.Probe` for `{kind: tcp}`."""

    def __init__(self, options: settings.TcpProbe, surroundings: Surroundings) -> None:
        self._options = options
        self._redact = surroundings.redact
        self._host = options.host.strip("[]")
        self.address = (self._host, options.port) if sockets.is_here(self._host) else None

    async def ask(self, launch: Launch) -> Probed:  # noqa: ARG002 - whoever listens is asked
        """See `core.ports.Probe`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._connect()
            healthy, detail = True, "connected"
        except TimeoutError:
            healthy, detail = False, f"no answer within {self._options.timeout:g} s"
        except (OSError, ValueError) as error:  # ValueError: a name that is none
            healthy, detail = False, f"no answer: {clean(self._redact(str(error))) or type(error).__name__}"
        where = f"tcp {self._options.host}:{self._options.port}"
        return Probed(healthy=healthy, detail=f"{where}: {detail}", seconds=loop.time() - began)

    async def _connect(self) -> None:
        _, writer = await asyncio.open_connection(self._host, self._options.port)
        writer.close()
