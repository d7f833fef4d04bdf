"""TLS as a client: whose certificates are trusted. They are read when a probe needs them, not at the start."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from agent.system.threads import in_thread

_PLACES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": "/nonexistent"}


@contextmanager
def without_authorities() -> Iterator[None]:
    """Around the first import of aiohttp, which makes contexts of its own and reads all authorities for them: 2 MB that
    stay, and 0.4 s where they lie in 290 files. What was made so trusts nobody: use `verifying`."""
    before = {name: os.environ.get(name) for name in _PLACES}
    os.environ.update(_PLACES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def trusting() -> ssl.SSLContext:
    """Trusts everybody: for who asks whether anybody answers, and sends nothing that is worth a lie."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def verifying() -> ssl.SSLContext:
    """Trusts whom the machine trusts (or SSL_CERT_FILE and SSL_CERT_DIR say), and checks names; made anew when that has
    changed (`update-ca-certificates`)."""
    return await in_thread(lambda: _verifying(_trusted()))


def _trusted() -> tuple[int, ...]:
    """What is another one once somebody has changed whom the machine trusts."""
    places = ssl.get_default_verify_paths()
    return tuple(_changed(place) for place in (places.cafile, places.capath) if place)


def _changed(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:  # it is just being replaced: the next question sees what came
        return 0


@lru_cache(maxsize=1)
def _verifying(trusted: tuple[int, ...]) -> ssl.SSLContext:
    del trusted
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context
