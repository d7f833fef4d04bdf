"""The load: so many connections, each sends its next delivery when the last one was answered.

    python -m bench.load --port N --path /webhook --secret FILE --connections N --seconds N [--bad]   -> JSON

A process of its own, so that it shares no interpreter with what it measures. Each delivery is 6.9 KB as GitHub's
pushes are, unique and signed: all but the last bytes are the same, so that signing one takes two microseconds.
"""

import argparse
import hashlib
import hmac
import json
import secrets
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

BODY = 6900
WARM_SECONDS = 0.5
PATIENCE = 5.0


class Deliveries:
    """Unique signed requests, as buffers to be sent one after the other."""

    def __init__(self, path: str, secret: bytes, *, bad: bool) -> None:
        document = {
            "ref": "refs/heads/main", "before": "0" * 40, "created": False, "deleted": False, "forced": False,
            "repository": {"id": 1, "full_name": "me/app", "default_branch": "main"},
            "pusher": {"name": "me"}, "sender": {"login": "me", "id": 1}, "commits": [{"message": ""}],
        }  # fmt: skip
        document["commits"] = [{"message": "x" * (BODY - len(json.dumps(document)) - 100)}]
        self._opening = json.dumps(document)[:-1].encode()
        self._signing = hmac.new(secret, self._opening, hashlib.sha256)
        self._run = secrets.token_hex(12)
        self._number = 0
        self._bad = bad
        length = len(self._opening) + len(self._closing())
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: GitHub-Hookshot/1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\nX-GitHub-Event: push\r\n"
            "X-GitHub-Delivery: {}\r\nX-Hub-Signature-256: sha256={}\r\n\r\n"
        )

    def _closing(self) -> bytes:
        return b', "after": "%s%016x"}' % (self._run.encode(), self._number)

    def next(self) -> list[bytes]:
        """Another one."""
        self._number += 1
        closing = self._closing()
        signing = self._signing.copy()
        signing.update(closing)
        signature = "0" * 64 if self._bad else signing.hexdigest()
        head = self._head.format(f"{self._run}-{self._number:016x}", signature)
        return [head.encode(), self._opening, closing]


@dataclass
class Line:
    """One connection."""

    socket: socket.socket
    sent: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def send(self, parts: list[bytes]) -> None:
        """All of it: loopback takes it at once, or nearly."""
        self.received.clear()
        self.sent = time.perf_counter()
        gone = self.socket.sendmsg(parts)
        rest = b"".join(parts)[gone:]
        if rest:
            self.socket.setblocking(True)
            self.socket.sendall(rest)
            self.socket.setblocking(False)

    def status(self) -> int | None:
        """Of the answer, once it is here to its end."""
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        return int(head[9:12]) if len(body) >= length else None


class Load:
    """Runs the lines for a while."""

    def __init__(self, port: int, deliveries: Deliveries) -> None:
        self._port = port
        self._deliveries = deliveries
        self._epoll = select.epoll()
        self._lines: dict[int, Line] = {}
        self.latencies = array("d")
        self.statuses: Counter[int] = Counter()
        self.broken = 0

    def run(self, connections: int, seconds: float) -> float:
        """Returns for how many seconds it counted. What is under way at the end is waited for, and not counted."""
        with ExitStack() as stack:
            stack.callback(self._epoll.close)
            stack.callback(self._close)
            for _ in range(connections):
                self._connect()
            counting = time.perf_counter() + WARM_SECONDS
            end = counting + seconds
            for line in [*self._lines.values()]:
                line.send(self._deliveries.next())
            for line in self._answered(end):
                now = time.perf_counter()
                if counting <= now < end:
                    self.latencies.append(now - line.sent)
                    self.statuses[line.status() or 0] += 1
                if now < end:
                    line.send(self._deliveries.next())
        return seconds

    def _answered(self, end: float) -> Iterator[Line]:
        """Lines whose answer is whole; ends when the time is over and nothing is under way any more."""
        waiting = len(self._lines)
        while waiting and time.perf_counter() < end + PATIENCE:
            for descriptor, _ in self._epoll.poll(0.1):
                line = self._lines[descriptor]
                data = line.socket.recv(65536)
                line.received += data
                if not data:
                    self._reconnect(descriptor)
                elif line.status() is not None:
                    yield line
                    waiting -= time.perf_counter() >= end

    def _connect(self) -> Line:
        made = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        line = Line(made)
        self._lines[made.fileno()] = line
        self._epoll.register(made.fileno(), select.EPOLLIN)
        return line

    def _reconnect(self, descriptor: int) -> None:
        self.broken += 1
        self._epoll.unregister(descriptor)
        self._lines.pop(descriptor).socket.close()
        self._connect().send(self._deliveries.next())

    def _close(self) -> None:
        for line in self._lines.values():
            line.socket.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--secret", type=Path, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--bad", action="store_true")
    options = parser.parse_args()
    deliveries = Deliveries(options.path, options.secret.read_bytes().strip(), bad=options.bad)
    load = Load(options.port, deliveries)
    seconds = load.run(options.connections, options.seconds)
    ordered = sorted(load.latencies)
    document = {
        "statuses": load.statuses, "broken": load.broken, "seconds": seconds,
        "p50": ordered[len(ordered) // 2] if ordered else None,
        "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] if ordered else None,
    }  # fmt: skip
    print(json.dumps(document))


if __name__ == "__main__":
    main()
