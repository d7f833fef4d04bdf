"""What aiohttp's own connection leaves open: problem documents for what is no HTTP, and when a request began.

A connection that has sent no whole request head within the deadline of its start, or of its last answer, is closed.
The deadline of a body counts from the first byte of its request's head, so that both together have it once (R-RX-9).

There are never more than `most` connections (F50): a descriptor that strangers hold is one that git and the state lack.
Above that, whoever has kept the agent waiting longest gives way to whoever comes; a request that is being worked on
never does. And who does not take its answer is cut off too, for a closed connection lives until its last byte is taken.
"""

import asyncio
import fcntl
import logging
import resource
import socket
import struct
import sys
import termios
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from aiohttp import StreamReader, web

from agent.core.text import clean
from agent.web.problems import problem

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 10.0
"""For a whole request. aiohttp itself waits for ever."""

MOST_CONNECTIONS = 512
"""At the same time, TCP and the unix socket together; fewer where the process may have few descriptors."""

ANSWER_SECONDS = 30.0
"""A client that takes nothing of its answer for so long (at most twice that) is cut off."""

PIECE = 64 * 1024
"""Bytes that are read of a connection at once."""


_RESET = struct.pack("ii", 1, 0)  # struct linger of socket(7): on, for no time


class Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ("began", "body", "left", "line", "taken")

    began: float | None
    """The loop's time when the first byte of the next request came."""
    line: asyncio.Transport | None
    """The transport, also while it is closing: aiohttp forgets it then."""
    body: StreamReader | None
    """Of the last request."""
    taken: int
    """Counts up when the client has taken what it had left."""
    left: tuple[int, int] | None
    """What was left for the client at the last look, if anything was."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reads little at once: asyncio's 256 KiB a connection are much where many of them send."""
        if hasattr(transport, "max_size"):  # asyncio's own loop; what others have instead is smaller
            transport.max_size = PIECE
        self.line = transport if isinstance(transport, asyncio.Transport) else None
        super().connection_made(transport)

    def begin(self, request: web.BaseRequest) -> None:
        """Takes note of the request that is about to be answered."""
        self.body = request.content
        if isinstance(self._manager, Protocols):
            self._manager.begins(self)

    def resume_writing(self) -> None:
        """The client has taken most of what waited for it."""
        self.taken += 1
        super().resume_writing()

    def waits_for_client(self) -> bool:
        """Whether nothing is being worked on: a head, the rest of a body, or the taking of an answer is missing."""
        idle = self._waiter is not None and not self._waiter.done()
        return idle or self._unsent() > 0 or (self.body is not None and not self.body.is_eof())

    def is_stuck(self) -> bool:
        """Whether something waits for the client, and it has taken nothing since this was asked last."""
        before, self.left = self.left, self._left() if self._unsent() else None
        return (
            before is not None
            and self.left is not None
            and before[0] == self.left[0]
            and before[1] <= self.left[1]
        )

    def cut(self) -> None:
        """Ends the connection at once; what was not sent is lost, also in the kernel, which would keep it for long."""
        line = None if self.line is None or not self._unsent() else self.line.get_extra_info("socket")
        if line is not None and line.fileno() >= 0:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.force_close()
        if self.line is not None:
            self.line.abort()

    def _unsent(self) -> int:
        return 0 if self.line is None else self.line.get_write_buffer_size()

    def _left(self) -> tuple[int, int]:
        """How often most of it was taken, and how many bytes of the rest are not. The kernel's share counts: it holds
        megabytes, and asks for more only when a good part of them was taken."""
        line = None if self.line is None else self.line.get_extra_info("socket")
        return self.taken, self._unsent() + (0 if line is None else _queued(line.fileno()))

    def data_received(self, data: bytes) -> None:
        """Notes the time if nothing is under way; what comes meanwhile is a body, or the next request too early."""
        if self.began is None and self._waiter is not None and not self._waiter.done():
            self.began = asyncio.get_running_loop().time()
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A problem document, without a traceback in the log for what others do wrong."""
        if request.writer.output_size:
            raise ConnectionError("half an answer is out already")
        if status >= 500:
            log.error("request failed: %s", request.path, exc_info=exc)
            response = problem(status, "internal", "something went wrong here")
        else:
            log.debug("no HTTP from %s: %s", request.remote, clean(message or ""))
            response = problem(status, "request-invalid", "this is not HTTP as it must be")
        response.force_close()
        return response


class Protocols(web.Server):
    """Makes one `Protocol` a connection, and sees to it that they stay few."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        deadline: float,
        most: int = MOST_CONNECTIONS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """`deadline`: seconds for a request. Half of the process's descriptors are for other things than clients."""
        super().__init__(handler)
        self._deadline = deadline
        self._most = min(most, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._answer_seconds = answer_seconds
        self._in_turn: OrderedDict[Protocol, None] = OrderedDict()
        """All connections; whose last request (or beginning) is longest ago comes first."""
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """One more; if that is too many, one goes: the one that waits longest for its client, or else the new one."""
        super().connection_made(handler, transport)
        assert isinstance(handler, Protocol), "it was made below"
        self._in_turn[handler] = None
        if len(self._in_turn) > self._most:
            one = next(one for one in self._in_turn if one is handler or one.waits_for_client())
            del self._in_turn[one]
            asyncio.get_running_loop().call_soon(one.cut)  # later: aiohttp has not quite made the new one yet
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(self._answer_seconds, self._cut_stuck)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """One less."""
        assert isinstance(handler, Protocol), "it was made below"
        self._in_turn.pop(handler, None)
        super().connection_lost(handler, exc)

    def begins(self, protocol: Protocol) -> None:
        """A request has begun on this connection: its turn to give way comes last."""
        if protocol in self._in_turn:
            self._in_turn.move_to_end(protocol)

    def _cut_stuck(self) -> None:
        for one in list(self._in_turn):
            if one.is_stuck():
                one.cut()
        again = asyncio.get_running_loop().call_later
        self._look = again(self._answer_seconds, self._cut_stuck) if self._in_turn else None

    def __call__(self) -> web.RequestHandler:
        protocol = Protocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # what it takes for "none"; each line costs on an SD card
            keepalive_timeout=self._deadline,
            lingering_time=min(1.0, self._deadline),
            auto_decompress=False,
            read_bufsize=PIECE // 2,
        )
        protocol.began = protocol.line = protocol.body = protocol.left = None
        protocol.taken = 0
        return protocol


def _queued(descriptor: int) -> int:
    """Bytes in the kernel that the other side has not taken yet (SIOCOUTQ, tcp(7)); 0 of what is closed."""
    if descriptor < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def take_beginning(request: web.BaseRequest) -> float:
    """The loop's time when the request's first byte came; asked once, before its body is read."""
    now = asyncio.get_running_loop().time()
    protocol = request.protocol
    if not isinstance(protocol, Protocol):
        return now
    began, protocol.began = protocol.began, None
    protocol.begin(request)
    return now if began is None else began
