"""Who listens: real sockets on loopback."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.system import sockets

V4, V6 = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what the test opened."""
    with ExitStack() as opened:
        yield opened


def listening(
    stack: ExitStack, host: str, port: int = 0, *, only_v6: bool = False, shared: bool = False
) -> tuple[int, int]:
    """A listening socket: its port and its inode."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind((host, port))
    server.listen()
    return server.getsockname()[1], os.fstat(server.fileno()).st_ino


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        ("127.0.0.1", V4),
        ("0.0.0.0", V4),
        ("::", V4),
        ("::ffff:127.0.0.1", V4),
        ("::", V6),
        ("::1", V6),
    ],
)
def test_a_listener_is_found_by_every_address_that_reaches_it(
    stack: ExitStack, bound: str, asked: sockets.Address
) -> None:
    port, inode = listening(stack, bound)
    socket.create_connection((str(asked), port)).close()
    assert sockets.listeners(asked, port) == {inode}


@pytest.mark.parametrize(("bound", "asked"), [("127.0.0.2", V4), ("127.0.0.1", V6), ("::1", V4)])
def test_a_listener_at_another_address_does_not_count(
    stack: ExitStack, bound: str, asked: sockets.Address
) -> None:
    port, _ = listening(stack, bound)
    assert sockets.listeners(asked, port) == set()


def test_a_port_that_is_only_connected_is_not_listened_at(stack: ExitStack) -> None:
    port, _ = listening(stack, "127.0.0.1")
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    assert sockets.listeners(V4, client.getsockname()[1]) == set()


def test_the_very_address_comes_before_all_addresses(stack: ExitStack) -> None:
    """An old process at 0.0.0.0 is not what answers at 127.0.0.1 if somebody is bound there."""
    port, precise = listening(stack, "127.0.0.1", shared=True)
    _, general = listening(stack, "0.0.0.0", port, shared=True)
    assert sockets.listeners(V4, port) == {precise}
    assert sockets.listeners(ipaddress.ip_address("127.0.0.9"), port) == {general}


def test_sockets_that_share_a_port_count_all(stack: ExitStack) -> None:
    """SO_REUSEPORT: some connections reach the other process."""
    port, one = listening(stack, "127.0.0.1", shared=True)
    _, two = listening(stack, "127.0.0.1", port, shared=True)
    assert sockets.listeners(V4, port) == {one, two}
    assert sockets.belong({one, two}, [os.getpid()]) is True
    assert sockets.belong({one, 1}, [os.getpid()]) is False


def test_who_may_not_be_looked_into_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert sockets.belong({1}, [os.getpid()]) is None
    assert sockets.belong({1}, []) is False


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert sockets.belong({1}, [2**22 + 1]) is False


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("api.localhost", True),
        (socket.gethostname(), True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("example.org", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_this_machine_is_known_without_asking_the_network(host: str, here: bool) -> None:
    assert sockets.is_here(host) is here


def test_names_and_addresses_become_addresses() -> None:
    assert sockets.addresses("localhost") == [V4, V6]
    assert sockets.addresses("0.0.0.0") == [V4]
    assert sockets.addresses("::ffff:127.0.0.1") == [V4]
    assert sockets.addresses("[::1%lo]".strip("[]")) == [V6]
    assert sockets.addresses("no such name") == []
