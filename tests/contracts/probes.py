"""What the tests of the probes share: a server on loopback, and what a probe knows of its service."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.adapters.probes import Surroundings
from agent.core.model import Launch
from agent.core.ports import Clock
from agent.core.settings import SecretRef
from tests.fakes import FakeClock

SECRET = "hunter2-hunter2-hunter2"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer | bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback that gives every request the same answer; yields its port."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        await server.wait_closed()


def a_response(status: str = "200 OK", body: bytes = b"ok", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def around(
    directory: Path, *, environment: Mapping[str, str] | None = None, clock: Clock | None = None
) -> Surroundings:
    """The surroundings of a service that lives in `directory`. Every reference leads to SECRET, which is hidden."""

    def secret(reference: SecretRef) -> bytes:
        assert reference.env == "TOKEN"
        return SECRET.encode()

    return Surroundings(
        service="scraper", directory=directory, environment=environment or {}, clock=clock or FakeClock(),
        secret=secret, redact=lambda text: text.replace(SECRET, "***"),
    )  # fmt: skip


def a_launch(directory: Path, release: str = "1-aaaaaaa") -> Launch:
    """What runs, with `directory` as its release."""
    return Launch(service="scraper", release=release, revision="a" * 40, directory=str(directory))


async def until(what: str, look: Callable[[], bool]) -> None:
    """Waits for something outside of the loop that tells nobody."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + 60
    while not look():
        assert loop.time() < limit, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


def certified(directory: Path) -> ssl.SSLContext:
    """A server for localhost, whose self-signed certificate lies in the directory as `certificate`."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with the openssl program, which is not installed")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
         "-keyout", directory / "key", "-out", directory / "certificate"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(directory / "certificate", directory / "key")
    return tls
