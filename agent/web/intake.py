"""Bodies on their way in: bounded one by one, in time, and all together.

Before a signature was checked anybody may send, so what is being read is counted:

- A body up to LARGE_BODY draws on one budget, TOTAL, as it arrives. When that is used up, the body that has held
  most for longest (bytes times seconds) is given up with 503 intake-busy, whoever asked last. So a sender that
  trickles loses to one that sends, and a small delivery does not meet the limit at all.
- A larger one has a turn of its own: one at a time, few may wait. That holds too for a body of unknown length, from
  the byte on with which it outgrows LARGE_BODY.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from agent.core.errors import Refused, Unavailable

Body = bytes | bytearray

TOTAL = 8 * 1024 * 1024
"""Bytes of all bodies that are being read, without the large one."""

LARGE_BODY = 1024 * 1024
"""Bytes. Of bodies over this size one is in memory at a time."""

WAITING = 8
"""How many large bodies may wait for their turn; aiohttp keeps up to 256 KiB of each."""

CLOSE = {"Connection": "close"}


class _Draught:
    """One body while it is read."""

    def __init__(self, timer: asyncio.Timeout, began: float) -> None:
        self.body = bytearray()
        self.timer = timer
        self.began = began
        self.counted = 0
        """Bytes that count in the budget."""
        self.large = False
        self.busy = ""
        """Why it cannot be taken now, if it cannot."""

    def occupation(self, now: float) -> tuple[float, int]:
        """How much it has held, and for how long."""
        return self.counted * (now - self.began), self.counted


class Intake:
    """What is being read at this moment. One for the whole server."""

    def __init__(self, total: int = TOTAL, waiting: int = WAITING) -> None:
        self._total = total
        self._free = total
        self._waiting = waiting
        self._draughts: set[_Draught] = set()
        self._turn = asyncio.Lock()

    @property
    def held(self) -> int:
        """Bytes in memory that count in the budget."""
        return self._total - self._free

    @asynccontextmanager
    async def body(self, request: web.BaseRequest, limit: int, deadline: float) -> AsyncIterator[Body]:
        """The body, whole; a large one has its turn until the block ends. `deadline` is a time of the loop's clock.

        Leave the block as soon as the body was read: nothing else is taken up in its place before.

        Raises Refused: 413 (declared or real length over `limit`), 408, 400 if it is no HTTP, is encoded or breaks
        off; and Unavailable intake-busy.
        """
        content = request.content
        if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
            raise Refused(
                400, "request-invalid", "a transfer encoding but chunked is not taken", headers=CLOSE
            )
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        if content.is_eof():  # all of it came with the headers: the usual delivery
            whole = content.read_nowait()
            if len(whole) > limit:
                raise _too_large(limit)
            yield whole
            return
        draught = _Draught(asyncio.timeout_at(deadline), asyncio.get_running_loop().time())
        try:
            await self._fill(draught, request, limit)
            yield draught.body
        finally:
            self._free += draught.counted
            if draught.large:
                self._turn.release()

    async def _fill(self, draught: _Draught, request: web.BaseRequest, limit: int) -> None:
        self._draughts.add(draught)
        try:
            async with draught.timer:
                if (request.content_length or 0) > LARGE_BODY:
                    await self._take_turn(draught)
                await _ask_for(request)
                while chunk := await request.content.readany():
                    draught.body += chunk
                    if len(draught.body) > limit:
                        raise _too_large(limit)
                    await self._count(draught, len(chunk))
        except TimeoutError:
            if draught.busy:
                raise Unavailable("intake-busy", draught.busy) from None
            raise Refused(408, "body-too-slow", "the body did not arrive in time", headers=CLOSE) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise Refused(400, "request-invalid", "the body broke off", headers=CLOSE) from error
        finally:
            self._draughts.discard(draught)

    async def _count(self, draught: _Draught, more: int) -> None:
        if draught.large:
            return
        draught.counted += more
        self._free -= more
        now = asyncio.get_running_loop().time()
        while self._free < 0 and self._draughts:
            self._give_up(max(self._draughts, key=lambda one: one.occupation(now)), now)
        if draught.busy:
            raise Unavailable("intake-busy", draught.busy)
        if len(draught.body) > LARGE_BODY:
            await self._take_turn(draught)

    async def _take_turn(self, draught: _Draught) -> None:
        """Waits, within the deadline, until no other large body is in memory; from then on it is not counted."""
        if self._turn.locked() and self._waiting < 1:
            raise Unavailable("intake-busy", "other large bodies are waiting")
        self._waiting -= 1
        draught.busy = "another large body is being read"
        try:
            await self._turn.acquire()
        finally:
            self._waiting += 1
        draught.large = True
        if draught not in self._draughts:  # given up while it waited
            raise Unavailable("intake-busy", draught.busy)
        self._draughts.discard(draught)
        draught.busy = ""
        self._free += draught.counted
        draught.counted = 0

    def _give_up(self, draught: _Draught, now: float) -> None:
        """Frees what it holds at once; whoever reads it finds out at its next turn of the loop."""
        self._draughts.discard(draught)
        self._free += draught.counted
        draught.counted = 0
        draught.body = bytearray()
        draught.busy = "too much is being received at once"
        if not draught.timer.expired():
            draught.timer.reschedule(now)


async def _ask_for(request: web.BaseRequest) -> None:
    """Says that the body may come, to who waits for that."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def _too_large(limit: int) -> Refused:
    return Refused(413, "body-too-large", f"the body is larger than {limit} bytes", headers=CLOSE)
