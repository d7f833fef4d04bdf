"""Asks whether somebody answers, and nothing more: twenty times a second while a service is switched.

For HTTP an answer is a status line below 500: 401 and 404 are one, the 502 of a proxy is none. No secret is sent, no
redirect followed, no certificate looked at, and the body is not read. Answers `core.ports.Knock`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from agent.core import settings
from agent.system import tls

PATIENCE = 10.0
"""Seconds: what waits in a socket's queue for the new version is answered late, and not refused."""
FAILURES = (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
"""No answer: TimeoutError is an OSError."""
LINE = 4096
"""Bytes that a status line may have."""


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
        except FAILURES:
            return False

    async def _ask(self) -> bool:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=tls.trusting() if self._secure else None, limit=LINE
        )
        try:
            if not self._request:
                return True
            return 0 < await status_of(reader, writer, self._request) < 500
        finally:
            await let_go(writer)


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
    port = parts.port or (443 if secure else 80)
    return Door(parts.hostname, port, request=request_to(parts), secure=secure)


def request_to(url: SplitResult) -> bytes:
    """What is sent to ask at this URL, without the user and password in it."""
    path = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
    host = url.netloc.rpartition("@")[2]
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: homeport\r\nConnection: close\r\n\r\n".encode()
    )


async def status_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """The status of the answer; 0 if it is none. Raises what a stream does."""
    writer.write(request)
    words = (await reader.readuntil(b"\n")).split(None, 2)
    good = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit()
    return int(words[1]) if good else 0


async def let_go(writer: asyncio.StreamWriter) -> None:
    """At once: a body that never ends is not waited for."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
