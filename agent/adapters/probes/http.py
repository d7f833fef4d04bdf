"""A request that must be answered as the configuration says.

Rules: redirects are followed only if that was asked for (a 302 to a login page is not health), TLS is verified, no
proxy or cookies, a new connection for each question (a kept one might lead to the process that is being replaced),
one deadline for name, connection, headers and body together. The body must arrive as promised, but no more than
64 KiB of it are read.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from agent.adapters.probes.surroundings import Surroundings
from agent.core import settings
from agent.core.answer import differs, lacks
from agent.core.model import Launch, Probed
from agent.core.text import clean
from agent.system import sockets, tls

_BODY_READ = 65536
_BODY_SHOWN = 120
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class _Answer:
    """What came back; `whole`: the body ended before the limit."""

    status: int
    location: str
    body: bytes
    whole: bool


class HttpProbe:
    """`core.ports.Probe` for `{kind: http}`."""

    def __init__(self, options: settings.HttpProbe, surroundings: Surroundings) -> None:
        self._options = options
        self._redact = surroundings.redact
        self._bearer = ""
        if options.bearer is not None:
            self._bearer = surroundings.secret(options.bearer).decode("utf-8", "replace")
        self.address = _address(options.url)

    async def ask(self, launch: Launch) -> Probed:  # noqa: ARG002 - whoever answers there is asked
        """See `core.ports.Probe`."""
        import aiohttp

        options = self._options
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(options.timeout):
                healthy, detail = await self._request()
        except TimeoutError:
            healthy, detail = False, f"no answer within {options.timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a name that is none
            reason = re.sub(r"\w+://\S+", lambda found: _shown(found[0]), str(error))
            healthy, detail = False, f"no answer: {clean(self._redact(reason)) or type(error).__name__}"
        seconds = loop.time() - began
        if healthy and 0 < options.latency < seconds:
            healthy = False
            detail += f", but it took {seconds:.2f} s; {options.latency:g} s are allowed"
        asked = f"{options.method} {_shown(options.url)}"
        return Probed(healthy=healthy, detail=f"{asked}: {detail}", seconds=seconds)

    async def _request(self) -> tuple[bool, str]:
        """In a session of its own: 0.1 ms, and nothing that somebody must close."""
        import aiohttp

        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the deadline is the caller's
            auto_decompress=False,  # nothing can unpack to gigabytes
            headers={"Accept-Encoding": "identity", "User-Agent": "homeport"},
        ) as session:
            url, left = self._options.url, self._options.redirects
            while True:
                answer = await self._send(session, url)
                elsewhere = answer.status in _REDIRECTS and answer.location != ""
                if answer.status == self._options.status or not elsewhere or not left:
                    return self._judge(answer)
                target = urljoin(url, answer.location)
                if problem := _forbidden(url, target):
                    return False, f"{answer.status}, redirected {problem}, which is not followed"
                url, left = target, left - 1

    async def _send(self, session: Any, url: str) -> _Answer:
        headers = dict(self._options.headers)
        if self._bearer and _origin(url) == _origin(self._options.url):
            headers["Authorization"] = f"Bearer {self._bearer}"
        secure = url.lower().startswith("https:") and self._options.verify_tls
        request = session.request(
            self._options.method, url, headers=headers, allow_redirects=False,
            ssl=await tls.verifying() if secure else self._options.verify_tls,
        )  # fmt: skip
        async with request as response:
            body = bytearray()
            while len(body) <= _BODY_READ and (piece := await response.content.read(_BODY_READ)):
                body += piece
            response.close()  # an endless body is not read to its end
            return _Answer(
                status=response.status,
                location=response.headers.get("Location", ""),
                body=bytes(body[:_BODY_READ]),
                whole=len(body) <= _BODY_READ,
            )

    def _judge(self, answer: _Answer) -> tuple[bool, str]:
        if answer.status == self._options.status:
            # Redacted before it is cut, so that no half of a secret is left.
            complaint = clean(self._redact(self._complaint(answer)))
            return not complaint, f"{answer.status}, but {complaint}" if complaint else str(answer.status)
        detail = f"{answer.status} instead of {self._options.status}"
        if answer.location:
            detail += f", redirected to {self._safe(answer.location)}"
        text = clean(self._redact(answer.body.decode("utf-8", "replace")), _BODY_SHOWN)
        return False, f"{detail}: {text}" if text else detail

    def _complaint(self, answer: _Answer) -> str:
        """What is wrong with the body; "" if nothing is."""
        wanted, text = self._options.json, self._options.body
        if wanted and not answer.whole:
            return f"the body is longer than {_BODY_READ >> 10} KiB"
        return differs(answer.body, wanted) or ("" if text is None else lacks(answer.body, text))

    def _safe(self, location: str) -> str:
        return clean(self._redact(_shown(location)), _BODY_SHOWN)


def _forbidden(here: str, there: str) -> str:
    """Why a redirect must not be followed; "" if it may be."""
    old, new = urlsplit(here).scheme, urlsplit(there).scheme
    if new not in ("http", "https"):
        return f"to {clean(new, 20) or 'an address that is none'}"
    return "from https to http" if (old, new) == ("https", "http") else ""


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _address(url: str) -> tuple[str, int] | None:
    """Host and port if they are this machine's."""
    with suppress(ValueError):  # no URL: `ask` tells
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.hostname and sockets.is_here(parts.hostname):
            return parts.hostname, port
    return None


def _shown(url: str) -> str:
    """Without what may be secret: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path
