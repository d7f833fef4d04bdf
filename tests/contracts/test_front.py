"""A service asked as its users do: by its name, through whoever listens on this machine."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from agent.adapters.front import Front
from agent.system import connections, tls
from tests.world import free_port


@asynccontextmanager
async def answering(answer: bytes, certificate: Path | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server with this answer to everything; its port, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of app.example.org, that nobody trusts; its key is in the same file."""
    made = tmp_path / "pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    names = ["-addext", "subjectAltName=DNS:app.example.org", "-keyout", str(made), "-out", f"{made}.c"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True, timeout=60)
    made.write_text(made.read_text() + Path(f"{made}.c").read_text())
    return made


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", ""),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "it answers 502"),
        (b"SSH-2.0-OpenSSH\r\n", "what answers does not speak HTTP"),
    ],
)
async def test_anything_but_a_failure_of_the_server_is_an_answer(answer: bytes, complaint: str) -> None:
    async with answering(answer) as (port, _):
        front = Front(f"http://127.0.0.1:{port}/")
        assert await front.complaint() == complaint
        assert await front.knock() == (complaint == "")


async def test_it_is_asked_on_this_machine_by_the_name_in_the_address() -> None:
    """No name server is asked, and no router."""
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (port, asked):
        assert await Front(f"http://app.example.org:{port}/a?b=c").complaint() == ""
    assert asked[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: app.example.org:")


async def test_nobody_there_is_a_complaint() -> None:
    front = Front(f"http://127.0.0.1:{free_port()}/")
    assert "no answer: " in await front.complaint()
    assert not await front.knock()


@pytest.mark.parametrize("verify", [True, False])
async def test_a_certificate_that_nobody_trusts_is_a_complaint_unless_that_is_wanted(
    certificate: Path, *, verify: bool
) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", certificate) as (port, _):
        front = Front(f"https://app.example.org:{port}/", verify_tls=verify)
        assert ("the certificate is not valid" in await front.complaint()) == verify
        assert await front.knock(), "whoever looks on asks whether anybody answers, and nothing more"


@pytest.mark.parametrize(("name", "good"), [("app.example.org", True), ("other.example.org", False)])
async def test_a_trusted_certificate_must_be_of_that_name(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, good: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls._verifying.cache_clear()
    try:
        async with answering(b"HTTP/1.1 200 OK\r\n\r\n", certificate) as (port, _):
            told = await Front(f"https://{name}:{port}/").complaint()
    finally:
        tls._verifying.cache_clear()
    assert (told == "") == good, told


async def test_who_is_connected_to_a_port_is_counted_and_a_listener_is_seen() -> None:
    port = free_port()
    assert (connections.is_taken(port), connections.to_port(port)) == (False, 0)
    assert connections.clients_of(port) == frozenset()
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        assert (connections.is_taken(port), connections.to_port(port)) == (True, 0)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (connections.to_port(port), len(connections.clients_of(port))) == (1, 1)
        writer.close()
        await writer.wait_closed()
        await gone.wait()
