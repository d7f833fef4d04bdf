"""The `tcp` probe: a port that takes connections, and whose it is."""

import asyncio
import socket
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.probes.tcp import TcpProbe
from agent.core import settings
from tests.contracts.probes import a_launch, around
from tests.world import free_port

LAUNCH = a_launch(Path("/"))


def a_probe(port: int, host: str = "127.0.0.1", timeout: float = 5) -> TcpProbe:
    options = settings.TcpProbe(port=port, host=host, timeout=settings.Seconds(timeout))
    return TcpProbe(options, around(Path("/")))


async def test_a_port_that_takes_connections_is_healthy_and_nothing_is_sent_to_it() -> None:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        probed = await a_probe(port).ask(LAUNCH)
        assert probed.healthy
        assert probed.detail == f"tcp 127.0.0.1:{port}: connected"
        assert await asyncio.wait_for(received, 60) == b""


async def test_nobody_there_is_a_failure_with_the_systems_words() -> None:
    probed = await a_probe(free_port()).ask(LAUNCH)
    assert not probed.healthy
    assert "no answer: " in probed.detail
    assert "refused" in probed.detail.lower() or "111" in probed.detail


async def test_a_backlog_that_is_full_is_a_failure_after_the_deadline() -> None:
    """F63: something listens, and nobody takes the connections."""
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        probed = await a_probe(port, timeout=0.2).ask(LAUNCH)
        for one in waiting:
            one.close()
    assert not probed.healthy
    assert probed.detail == f"tcp 127.0.0.1:{port}: no answer within 0.2 s"


@pytest.mark.parametrize("host", ["no such host", "a..b", "x" * 70])
async def test_a_name_that_is_none_is_a_failure_and_no_exception(host: str) -> None:
    assert not (await a_probe(1, host).ask(LAUNCH)).healthy


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 5432)),
        ("localhost", ("localhost", 5432)),
        ("::1", ("::1", 5432)),
        ("[::1]", ("::1", 5432)),
        ("192.0.2.1", None),
        ("db.example.org", None),
    ],
)
def test_the_address_is_known_where_it_is_this_machines(host: str, address: tuple[str, int] | None) -> None:
    """F65: the runtime then confirms whose socket it is."""
    assert a_probe(5432, host).address == address
