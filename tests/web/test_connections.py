"""How many connections there may be, and who gives way: never who is being worked on, and never who comes."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.store.database import Database
from tests.conftest import Later
from tests.web.conftest import ADMIN, House, a_body, bearer, headers_of, open_house, some_settings

PUSH = a_body()
HEAD = "\r\n".join(f"{name}: {value}" for name, value in headers_of(PUSH).items())
DELIVERY = (
    f"POST /webhook HTTP/1.1\r\nHost: x\r\n{HEAD}\r\nContent-Length: {len(PUSH)}\r\n\r\n".encode() + PUSH
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def narrow(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """A house with room for four connections, where an answer is to be taken within moments."""
    async for opened in open_house(
        tmp_path, database, some_settings(tmp_path), deadline=30.0, connections=4, answer_seconds=0.3
    ):
        yield opened


async def line_to(house: House, sent: bytes = b"") -> Line:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def end_of(line: Line) -> bytes:
    """What comes until the server closes; raises TimeoutError if it does not."""
    with suppress(ConnectionError):
        return await asyncio.wait_for(line[0].read(), 20)
    return b""


async def status(line: Line) -> bytes:
    """The next answer's status line; its body is left."""
    return (await asyncio.wait_for(line[0].readline(), 20))[9:12]


async def answered(line: Line) -> bytes:
    """The status of the next answer, which is read to its end."""
    head = await asyncio.wait_for(line[0].readuntil(b"\r\n\r\n"), 20)
    length = next(row for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:"))
    await asyncio.wait_for(line[0].readexactly(int(length[15:])), 20)
    return head[9:12]


async def close(*lines: Line) -> None:
    for _, writer in lines:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def begin_download(client: socket.socket, house: House, buffer: int) -> None:
    """Asks for the backup b1; reads nothing. `buffer`: bytes that the client's side of the kernel keeps."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", house.server.port))
    token = bearer(ADMIN)["Authorization"]
    head = f"GET /api/v1/backups/b1/content HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n"
    await asyncio.get_running_loop().sock_sendall(client, f"{head}Connection: close\r\n\r\n".encode())


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(DELIVERY[:40], id="half a head"),
        pytest.param(DELIVERY[:-10], id="half a body"),
    ],
)
async def test_who_kept_us_waiting_longest_gives_way_to_who_comes(narrow: House, sent: bytes) -> None:
    """F50: the newcomer is served, the youngest of the idle ones stay."""
    idle = []
    for _ in range(4):
        idle.append(await line_to(narrow, sent))
        await asyncio.sleep(0.02)
    newcomer = await line_to(narrow, DELIVERY)
    assert await status(newcomer) == b"202"
    assert await end_of(idle[0]) == b""
    second = await line_to(narrow, HEALTH)
    assert await status(second) == b"200"
    assert await end_of(idle[1]) == b""
    assert not idle[2][0].at_eof()
    assert not idle[3][0].at_eof()
    await close(*idle, newcomer, second)


async def test_a_kept_connection_that_asks_again_is_not_the_oldest(narrow: House) -> None:
    """F50: GitHub's proxy keeps its connection; who only connected goes first."""
    kept = await line_to(narrow, HEALTH)
    assert await answered(kept) == b"200"
    idle = [await line_to(narrow) for _ in range(3)]
    kept[1].write(HEALTH)
    assert await answered(kept) == b"200"
    newcomer = await line_to(narrow, HEALTH)
    assert await answered(newcomer) == b"200"
    assert await end_of(idle[0]) == b""
    kept[1].write(HEALTH)
    assert await answered(kept) == b"200"
    await close(*idle, kept, newcomer)


async def test_what_is_being_worked_on_is_never_cut_off(
    narrow: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F50: where all work, the newcomer has to come again."""
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()
    real = narrow.database.promise

    async def slowly(act: Any) -> Any:
        arrived.release()
        await go_on.wait()
        return await real(act)

    monkeypatch.setattr(narrow.database, "promise", slowly)
    working = [await line_to(narrow, DELIVERY) for _ in range(4)]
    for _ in range(4):
        await asyncio.wait_for(arrived.acquire(), 20)
    assert await end_of(await line_to(narrow, HEALTH)) == b""
    go_on.set()
    assert sorted([await status(line) for line in working]) == [b"200", b"200", b"200", b"202"]
    await close(*working)


async def test_who_does_not_take_its_answer_is_cut_off(narrow: House) -> None:
    """F50: what is kept for it would live as long as the client likes."""
    narrow.backups.put("b1")
    narrow.backups.pieces = [b"x" * 1_000_000] * 20
    with socket.socket() as lazy:
        await begin_download(lazy, narrow, 2048)
        for _ in range(1200):
            if lazy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET:
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("it was not cut off")
    assert (await narrow.call("GET", "/health")).status == 200


async def test_who_takes_its_answer_slowly_gets_all_of_it(house: House, later: Later) -> None:
    """A backup over a slow line is long on its way: as long as something is taken, it goes on."""
    house.backups.put("b1")
    house.backups.pieces = [b"x" * 100_000] * 300  # far more than the kernel takes at once
    with socket.socket() as slow:
        await begin_download(slow, house, 65536)
        loop = asyncio.get_running_loop()
        taken = 0
        while piece := await loop.sock_recv(slow, 65536):
            taken += len(piece)
            await asyncio.sleep(0.01)
            later.by(2)  # the 30 s for an answer pass again and again before all was taken
    assert taken > 30_000_000
