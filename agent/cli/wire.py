"""The connection to an agent, below `cli.client`: kept apart because importing http.client costs 20 ms.

http.client, because importing aiohttp would cost more than most commands take.
"""

import http.client
import socket
from urllib.parse import urlsplit

from agent.core.errors import Refused

FAILURES = (OSError, http.client.HTTPException)
"""What using a connection raises."""
BROKEN_OFF = (
    http.client.RemoteDisconnected,
    http.client.IncompleteRead,
    ConnectionResetError,
    BrokenPipeError,
)
"""Those of an agent that was there and ended before it had answered."""


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connect(path: str, url: str | None, timeout: float) -> http.client.HTTPConnection:
    """A connection to the socket at `path`, or to `url`. Raises Refused if that is no address."""
    if url is None:
        return _SocketConnection(path, timeout)
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(
            400, "request-invalid", f"{url!r} is no address of an agent",
            hint="Write --url http://HOST:PORT or --url https://HOST.",
        )  # fmt: skip
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=timeout)
