"""Listening and ending: TCP, the unix socket, and who is on its other end."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.core import access
from agent.core.errors import Unavailable
from agent.core.model import Scope
from agent.core.settings import Listen
from agent.store.database import Database
from agent.web.context import local_peer
from agent.web.server import Server
from tests.web.conftest import Answer, House, a_body, headers_of, open_house, some_settings


async def local(house: House, method: str, path: str, **headers: str) -> Answer:
    """A request over the unix socket, without a token."""
    every = {name.replace("_", "-"): value for name, value in headers.items()} | {
        "Content-Type": "application/json"
    }
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(house.socket)) as http,
        http.request(method, f"http://localhost{path}", headers=every) as response,
    ):
        return await Answer.of(response)


# --- the unix socket


async def test_the_agents_own_user_holds_every_scope_on_the_socket(house: House) -> None:
    assert (await local(house, "GET", "/status")).status == 200
    assert (await local(house, "POST", "/deploy")).status == 202
    assert (await local(house, "GET", "/api/v1/backups/x/content")).status == 404
    shown = (await local(house, "GET", "/api/v1/session")).json
    assert shown["scopes"] == ["admin", "deploy", "read"]
    made = (await house.context.journal.deployments()).items[0]
    assert made.trigger.actor == shown["name"]


async def test_anyone_else_may_read_only(tmp_path: Path, database: Database) -> None:
    asked = []

    def peer(uid: int, gid: int) -> access.Principal:
        asked.append((uid, gid))
        return access.peer("guest", 4711, {4711}, own=uid, group=None)

    async for house in open_house(tmp_path, database, some_settings(tmp_path), peer=peer):
        assert (await local(house, "GET", "/status")).status == 200
        assert (await local(house, "POST", "/deploy")).code == "forbidden"
        assert (await local(house, "POST", "/deploy", Authorization=f"Bearer {'x' * 20}")).code == "forbidden"
    assert set(asked) == {(os.getuid(), os.getgid())}


async def test_the_socket_needs_no_host_and_takes_deliveries(house: House) -> None:
    assert (await local(house, "GET", "/status", Host="anything")).status == 200
    body = a_body()
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(house.socket)) as http,
        http.post("http://localhost/webhook", data=body, headers=headers_of(body)) as response,
    ):
        assert response.status == 202


async def test_everybody_may_connect_to_the_socket(house: House) -> None:
    assert _mode(house.socket) == 0o666


def _mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


async def test_a_socket_file_of_a_dead_agent_is_replaced(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async for house in open_house(tmp_path, database, some_settings(tmp_path)):
        assert (await local(house, "GET", "/status")).status == 200
    assert not path.exists()


async def test_a_socket_that_is_answered_belongs_to_another_agent(house: House) -> None:
    second = Server(house.context)
    with pytest.raises(Unavailable) as refused:
        await second.start()
    assert refused.value.code == "already-running"
    assert (await local(house, "GET", "/status")).status == 200


async def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("mine")
    with pytest.raises(Unavailable, match="no socket"):
        async for _ in open_house(tmp_path, database, some_settings(tmp_path)):
            pass
    assert path.read_text() == "mine"


async def test_a_path_that_is_too_long_for_a_socket_is_told(tmp_path: Path, database: Database) -> None:
    deep = tmp_path / ("d" * 120)
    with pytest.raises(Unavailable) as refused:
        async for _ in open_house(tmp_path, database, some_settings(deep)):
            pass
    assert "107 bytes" in refused.value.hint


def test_root_and_the_own_user_hold_everything_and_a_number_without_a_name_reads() -> None:
    assert local_peer(0, 0).may(Scope.ADMIN)
    own = local_peer(os.geteuid(), os.getegid())
    assert own.may(Scope.ADMIN)
    stranger = local_peer(3_999_999_999, 3_999_999_999)
    assert stranger == access.Principal("uid 3999999999", frozenset({Scope.READ}))


# --- TCP


async def test_a_taken_port_is_told(house: House, tmp_path: Path, database: Database) -> None:
    """R-SD-5."""
    listen = Listen(port=house.server.port, socket=str(tmp_path / "other.sock"))
    with pytest.raises(Unavailable) as refused:
        async for _ in open_house(tmp_path, database, some_settings(tmp_path, listen=listen)):
            pass
    assert refused.value.code == "port-taken"
    assert str(house.server.port) in refused.value.message
    assert (await house.get("/status")).status == 200


async def test_the_server_stops_twice_and_before_it_started_without_harm(house: House) -> None:
    await Server(house.context).stop()
    await house.server.stop()
    await house.server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await house.get("/status")


async def test_a_request_that_runs_is_finished_before_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-RX-27: what is answered 202 was stored, also in the middle of the end."""
    arrived, go_on = asyncio.Event(), asyncio.Event()
    real = house.database.promise

    async def slowly(act: Any) -> Any:
        arrived.set()
        await go_on.wait()
        return await real(act)

    monkeypatch.setattr(house.database, "promise", slowly)
    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(house.deliver(a_body()))
        await arrived.wait()
        ending = group.create_task(house.server.stop())
        await asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientConnectionError):
            await house.get("/status")
        go_on.set()
    assert delivery.result().status == 202
    assert ending.done()


async def test_idle_connections_are_closed_after_a_while(quick: House) -> None:
    """F50."""
    reader, writer = await asyncio.open_connection("127.0.0.1", quick.server.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    started = asyncio.get_running_loop().time()
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert 0.3 < asyncio.get_running_loop().time() - started < 9  # the usual time is 10 s
    writer.close()
    await writer.wait_closed()
