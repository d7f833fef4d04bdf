"""How the command line talks to an agent: HTTP over its unix socket, or to a URL with a token."""

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from agent.core.codes import CODES
from agent.core.errors import ConfigError, HomeportError, Problem, Refused, StepFailed, Unavailable

TIMEOUT = 30.0
"""Seconds for an ordinary answer."""
LONG_TIMEOUT = 6 * 3600.0
"""Seconds for a backup to be made or read back."""
ENDED = (
    "A deployment or restore that had begun goes on when `homeport serve` runs again, and the agent's log tells how"
    " it ends; a backup is to be asked for again."
)
"""What to know of a question that the agent did not live to answer."""
PIECE = 256 * 1024
"""Bytes that are read at once of a stream."""

_TRY_AGAIN = (429, 503)
"""Statuses that say "not now"; any other one is an answer."""


def segment(name: str, what: str) -> str:
    """What a person named, as one segment of a path. Raises Refused if it is empty."""
    if not name:
        raise Refused(400, "request-invalid", f"{what} has no name", hint=f"Name {what}.")
    return quote(name, safe="")


class Answer(Protocol):
    """What is used of an `http.client.HTTPResponse`."""

    status: int

    def read(self, amt: int | None = None, /) -> bytes:
        """So many bytes, or all."""
        ...

    def getheader(self, name: str, /) -> str | None:
        """A header's value."""
        ...


class Client:
    """One agent. Every method raises Unavailable(no-agent), or what the agent's problem document says."""

    def __init__(self, options: Namespace) -> None:
        self._socket: str = options.socket
        self._url: str | None = options.url

    def get(self, path: str, *, timeout: float = TIMEOUT) -> Any:
        """The answer's JSON."""
        return self._call("GET", path, None, timeout)

    def post(self, path: str, body: object = None, *, timeout: float = TIMEOUT) -> Any:
        """The answer's JSON."""
        return self._call("POST", path, {} if body is None else body, timeout)

    def text(self, path: str, *, timeout: float = TIMEOUT) -> str:
        """The answer, a text."""
        with self._open("GET", path, None, timeout) as answer, self._reaching():
            return answer.read().decode("utf-8", "replace")

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[bytes]]:
        """The answer in pieces, while it arrives."""
        with self._open("GET", path, None, LONG_TIMEOUT) as answer:
            yield self._pieces(answer)

    def _pieces(self, answer: Answer) -> Iterator[bytes]:
        with self._reaching():
            while piece := answer.read(PIECE):
                yield piece

    def _call(self, method: str, path: str, body: object, timeout: float) -> Any:
        with self._open(method, path, body, timeout) as answer, self._reaching():
            content = answer.read()
        try:
            return json.loads(content or b"null")
        except ValueError as error:
            raise _stranger(answer.status) from error

    @contextmanager
    def _open(self, method: str, path: str, body: object, timeout: float) -> Iterator[Answer]:
        from agent.cli import wire

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._url and (token := os.environ.get("HOMEPORT_TOKEN")):
            headers["Authorization"] = f"Bearer {token}"
        payload = None if body is None else json.dumps(body).encode()
        with closing(wire.connect(self._socket, self._url, timeout)) as connection:
            with self._reaching():
                connection.request(method, self._prefix() + path, payload, headers)
                answer = connection.getresponse()
                refusal = answer.read() if answer.status >= 400 else None
            if refusal is not None:
                raise self._problem(answer.status, refusal)
            if answer.getheader("X-Request-Id") is None:  # every answer of ours has one
                raise _stranger(answer.status)
            yield answer

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turns what the network refuses into a sentence; what is done with the answer stays outside."""
        from agent.cli import wire

        try:
            yield
        except wire.FAILURES as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            hint = "Check the address; on its machine, `homeport serve` starts it." if self._url else None
            where = self._url or self._socket
            if isinstance(error, wire.BROKEN_OFF):
                raise Unavailable(
                    "no-agent", f"the agent at {where} ended before it answered", hint=ENDED
                ) from error
            raise Unavailable("no-agent", f"no agent answers at {where}: {reason}", hint=hint) from error

    def _prefix(self) -> str:
        return urlsplit(self._url).path.rstrip("/") if self._url else ""

    def _problem(self, status: int, body: bytes) -> HomeportError:
        """The agent's problem document as the error that it was there."""
        try:
            document = json.loads(body)
            code, detail = str(document["code"]), str(document.get("detail") or document.get("title"))
            hint = str(document.get("hint", ""))
        except (ValueError, KeyError, TypeError):
            return _stranger(status)
        if code == "unauthorized" and self._url:
            hint = "Put a token of the agent's `access.tokens` into the environment's HOMEPORT_TOKEN."
        if code == "config-invalid" and (problems := _config_problems(document)):
            return ConfigError(problems, file=str(document.get("file", "")))
        known = code if code in CODES else "internal"
        if status in _TRY_AGAIN:
            return Unavailable(known, detail, hint=hint)
        if status >= 500:
            return StepFailed(known, detail, hint=hint)
        return Refused(status, known, detail, hint=hint)


def _config_problems(document: Any) -> list[Problem]:
    """What is wrong with the agent's configuration, as its problem document lists it."""
    try:
        return [
            Problem(str(item["path"]), str(item["message"]), item.get("line"), str(item.get("hint", "")))
            for item in document.get("problems", ())
        ]
    except (KeyError, TypeError, AttributeError):
        return []


def _stranger(status: int) -> Unavailable:
    return Unavailable(
        "no-agent", f"what answers there (with {status}) is not homeport", hint="Check --url or --socket."
    )
