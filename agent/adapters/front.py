"""Asks a service as its users do: through the nginx of this machine, by the name in its address.

The connection goes to 127.0.0.1 first: many a home router leads nobody back in who asks from inside. Where nginx does
not listen there, the name's own address is asked. Answers `core.ports.Knock`.
"""

import asyncio
import ssl
from urllib.parse import urlsplit

from agent.adapters.knock import FAILURES, LINE, PATIENCE, let_go, request_to, status_of
from agent.system import tls


class Front:
    """`url` is that of `blue_green`. No secret is sent, no redirect followed, and the body is not read."""

    def __init__(self, url: str, *, verify_tls: bool = True) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._secure = parts.scheme == "https"
        self.port = parts.port or (443 if self._secure else 80)
        self._verify = verify_tls
        self._request = request_to(parts)

    async def knock(self) -> bool:
        """See the port: any answer below 500."""
        try:
            async with asyncio.timeout(PATIENCE):
                return 0 < await self._ask(tls.trusting()) < 500
        except FAILURES:
            return False

    async def complaint(self) -> str:
        """What a user would complain about; "" if the answer is good."""
        try:
            async with asyncio.timeout(PATIENCE):
                status = await self._ask(await tls.verifying() if self._verify else tls.trusting())
        except ssl.SSLCertVerificationError as error:
            return f"the certificate is not valid: {error.verify_message or error.reason}"
        except TimeoutError:
            return f"no answer within {PATIENCE:g} s"
        except FAILURES as error:
            return f"no answer: {str(error) or type(error).__name__}"
        if not status:
            return "what answers does not speak HTTP"
        return f"it answers {status}" if status >= 500 else ""

    async def _ask(self, context: ssl.SSLContext) -> int:
        """The status of the answer; 0 if it is none."""
        reader, writer = await self._connected(context if self._secure else None)
        try:
            return await status_of(reader, writer, self._request)
        finally:
            await let_go(writer)

    async def _connected(
        self, context: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = self._host if context is not None else None
        try:
            return await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname=name, limit=LINE
            )
        except ConnectionRefusedError:
            return await asyncio.open_connection(
                self._host, self.port, ssl=context, server_hostname=name, limit=LINE
            )
