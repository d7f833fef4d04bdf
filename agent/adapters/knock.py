"""Asks whether somebody answers, and nothing more: twenty times a second while a service is switched.

For HTTP an answer is a status line below 500: 401 and 404 are one, the 502 of a proxy is none. No secret is sent, no
redirect followed, no certificate looked at, and the body is not read. Answers `core.ports.Knock`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from agent.core import settings
from agent.system import tls

PATIENCE = 10.0
"""Seconds: what waits in a socket's queue for the new version is answered late, and not refused."""
_LINE = 4096


class Door:
    """A place to knock at. `request` is what is sent; without one a connection is answer enough."""

    def __init__(self, host: str, port: int, *, request: bytes = b"", secure: bool = False) -> None:
        self._host = host
        self._port = port
        self._request = request
        self._secure = secure

    async def knock(self) -> bool:
        """See the port."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._ask()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return False

    async def _ask(self) -> bool:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=tls.trusting() if self._secure else None, limit=_LINE
        )
        try:
            if not self._request:
                return True
            writer.write(self._request)
            line = await reader.readuntil(b"\n")
            return _is_answer(line)
        finally:
            writer.transport.abort()  # a body that never ends is not waited for
            with suppress(OSError):
                await writer.wait_closed()


def door_of(probes: Sequence[settings.AnyProbe]) -> Door | None:
    """Where the first of the probes that ask over the network does; None: none of them does."""
    for probe in probes:
        if isinstance(probe, settings.HttpProbe):
            with suppress(ValueError):  # no URL: the probe itself tells
                return _of_url(probe.url)
        elif isinstance(probe, settings.TcpProbe):
            return Door(probe.host.strip("[]"), probe.port)
    return None


def _of_url(url: str) -> Door | None:
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    secure = parts.scheme == "https"
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    host = parts.netloc.rpartition("@")[2]
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: homeport\r\nConnection: close\r\n\r\n"
    return Door(
        parts.hostname, parts.port or (443 if secure else 80), request=request.encode("utf-8"), secure=secure
    )


def _is_answer(line: bytes) -> bool:
    words = line.split(None, 2)
    return len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() and int(words[1]) < 500
