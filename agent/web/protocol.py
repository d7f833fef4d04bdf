"""What aiohttp's own connection leaves open: problem documents for what is no HTTP, and when a request began.

A connection that has sent no whole request head within the deadline of its start, or of its last answer, is closed.
The deadline of a body counts from the first byte of its request's head, so that both together have it once (R-RX-9).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from agent.core.text import clean
from agent.web.problems import problem

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 10.0
"""For a whole request. aiohttp itself waits for ever."""

PIECE = 64 * 1024
"""Bytes that are read of a connection at once."""


class Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ("began",)

    began: float | None
    """The loop's time when the first byte of the next request came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reads little at once: asyncio's 256 KiB a connection are much where many of them send."""
        if hasattr(transport, "max_size"):  # asyncio's own loop; what others have instead is smaller
            transport.max_size = PIECE
        super().connection_made(transport)

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
    """Makes one `Protocol` a connection."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, deadline: float
    ) -> None:
        super().__init__(handler)
        self._deadline = deadline

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
        protocol.began = None
        return protocol


def take_beginning(request: web.BaseRequest) -> float:
    """The loop's time when the request's first byte came; asked once, before its body is read."""
    now = asyncio.get_running_loop().time()
    protocol = request.protocol
    if not isinstance(protocol, Protocol):
        return now
    began, protocol.began = protocol.began, None
    return now if began is None else began
