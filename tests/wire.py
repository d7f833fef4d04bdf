"""HTTP by hand: bytes over a socket, for what no client library would send."""

import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.world import SECRET

PATIENCE = 30.0
"""Seconds for an answer: the agent's own deadline is 10."""


def signature(body: bytes) -> str:
    """As GitHub signs it, with the world's secret."""
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def delivery(body: bytes, *lines: str, path: str = "/webhook") -> bytes:
    """A whole good delivery on a connection that ends with it; `lines` are further headers."""
    return request(
        f"POST {path} HTTP/1.1",
        "Host: x",
        *of_github(body),
        f"Content-Length: {len(body)}",
        *lines,
        body=body,
    )


def of_github(body: bytes) -> tuple[str, ...]:
    """What GitHub sends along, without the length."""
    return (
        "Content-Type: application/json",
        "X-GitHub-Event: push",
        "X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958",
        f"X-Hub-Signature-256: {signature(body)}",
    )


def request(*lines: str, body: bytes = b"", end: str = "\r\n") -> bytes:
    """Request line and headers, the empty line, the body. Latin-1, so that every byte can be named."""
    return end.join([*lines, "", ""]).encode("latin-1") + body


@contextmanager
def connected(port: int, seconds: float = PATIENCE) -> Iterator[socket.socket]:
    """A connection to the agent."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield line


def everything(line: socket.socket) -> bytes:
    """What comes until the other side closes. Raises TimeoutError if it does not."""
    received = bytearray()
    with suppress(ConnectionError):
        while piece := line.recv(65536):
            received += piece
    return bytes(received)


def exchange(port: int, *pieces: bytes, half_close: bool = False) -> bytes:
    """Sends the pieces; everything that comes back until the agent closes. `half_close` tells it that no more will
    come."""
    with connected(port) as line:
        with suppress(ConnectionError):
            for piece in pieces:
                line.sendall(piece)
            if half_close:
                line.shutdown(socket.SHUT_WR)
        return everything(line)


def statuses(answer: bytes) -> list[int]:
    """Of each answer in the bytes, in their order. Raises ValueError if they are not HTTP/1.x answers, whole."""
    found = []
    while answer:
        head, separator, rest = answer.partition(b"\r\n\r\n")
        if not separator or not head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
            raise ValueError(f"no answer: {answer[:200]!r}")
        status = int(head[9:12])
        length = 0
        for header in head.split(b"\r\n")[1:]:
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if status == 100:
            length = 0
        if len(rest) < length:
            raise ValueError(f"half an answer: {answer[:200]!r}")
        if status != 100:
            problem_of(status, rest[:length])
        found.append(status)
        answer = rest[length:]
    return found


def problem_of(status: int, body: bytes) -> None:
    """Every refusal with a body is a problem document."""
    if status >= 400 and body:
        document = json.loads(body)
        assert document["status"] == status, document
        assert document["code"], document
