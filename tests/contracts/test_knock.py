"""`core.ports.Knock`: whether somebody answers, asked of real sockets."""

import asyncio
import socket
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters import knock
from agent.adapters.knock import Door, door_of
from agent.core import settings
from tests.contracts.probes import answering, certified
from tests.world import free_port


def to(port: int, scheme: str = "http", host: str = "127.0.0.1") -> Door:
    door = door_of([settings.HttpProbe(url=f"{scheme}://{host}:{port}/health?x=1")])
    assert door is not None
    return door


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", True),
        (b"HTTP/1.1 404\r\n", True),
        (b"HTTP/1.1 499 x\r\n\r\n", True),
        (b"HTTP/1.1 500 x\r\n\r\n", False),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", False),
        (b"HTTP/1.1 503 Starting\r\n\r\n", False),
        (b"HTTP/1.1 200", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"\r\n", False),
        (b"HTTP/1.1 xyz\r\n", False),
        (b"x" * 10000, False),
        (b"", False),
    ],
)
async def test_an_answer_is_a_status_below_500(answer: bytes, expected: bool) -> None:
    async with answering(answer) as port:
        assert await to(port).knock() is expected


async def test_it_asks_for_the_probes_path_without_any_secret() -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        probe = settings.HttpProbe(
            url=f"http://me:secret@127.0.0.1:{port}/a/b?c=d", bearer=settings.SecretRef(env="TOKEN")
        )
        door = door_of([probe])
        assert door is not None
        assert await door.knock()
        assert (await heard).decode().splitlines() == [
            "GET /a/b?c=d HTTP/1.1", f"Host: 127.0.0.1:{port}", "User-Agent: homeport", "Connection: close", "",
        ]  # fmt: skip


async def test_nobody_there_is_no_answer() -> None:
    port = free_port()
    assert not await to(port).knock()
    assert not await Door("127.0.0.1", port).knock()


async def test_a_connection_is_enough_for_a_port() -> None:
    async with answering(b"") as port:
        door = door_of([settings.TcpProbe(port=port)])
        assert door is not None
        assert await door.knock()


async def test_what_nobody_takes_out_of_the_queue_is_waited_for_and_then_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A socket that systemd holds while the service starts."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        asking = asyncio.create_task(to(port).knock())
        await asyncio.sleep(0.1)
        assert not asking.done()
        taken, _ = server.accept()
        taken.send(b"HTTP/1.1 200 OK\r\n\r\n")
        assert await asking
        taken.close()
        monkeypatch.setattr(knock, "PATIENCE", 0.1)
        assert not await to(port).knock()


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 1000)
            await asyncio.sleep(0.001)

    async with answering(endless) as port:
        assert await asyncio.wait_for(to(port).knock(), 5)


async def test_behind_tls_whose_certificate_is_nobodys(tmp_path: Path) -> None:
    tls = certified(tmp_path)
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", tls) as port:
        assert await to(port, "https").knock()
        assert not await to(port).knock()


@pytest.mark.parametrize(
    "probes",
    [
        [],
        [settings.CommandProbe(command="true")],
        [settings.UnitProbe(unit="x.service")],
        [settings.HttpProbe(url="nonsense")],
    ],
)
def test_without_a_probe_over_the_network_there_is_no_door(probes: list[settings.AnyProbe]) -> None:
    assert door_of(probes) is None
