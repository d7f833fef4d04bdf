"""Errors as RFC 9457 problem documents: stable `code`, `hint` for people, and never more than was meant.

    {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "...", "code": "held", "hint": "...",
     "docs": "docs/troubleshooting.md#held"}

What this module does not know is a defect: it is answered `internal`, without a word of what went wrong.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from agent.core.codes import CODES, page_of
from agent.core.errors import ConfigError, Conflict, HomeportError, Refused, StepFailed, Unavailable
from agent.core.errors import Problem as ConfigProblem
from agent.core.text import clean

CONTENT_TYPE = "application/problem+json"

PLAIN = {"Server": "homeport"}
"""On every answer: which version of what answers is nobody's business."""

_STEP_STATUS = {
    "backup-unknown": 404, "disk-full": 507, "restore-refused": 409, "restore-place": 409,
    "restore-not-backed-up": 409, "prune-refused": 409,
}  # fmt: skip
"""A step's honest "no", where a request asked for it and waits. What is not listed is 500."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document. `request` is the id under which the log tells more."""

    type: str = msgspec.field(default_factory=lambda: "about:blank")
    title: str
    status: int
    detail: str
    code: str
    hint: str
    docs: str
    """The page that explains the code."""
    request: str = ""
    file: str = ""
    problems: tuple[ConfigProblem, ...] = ()
    """Of an invalid configuration: each of its problems."""


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    request_id: str = "",
    invalid: ConfigError | None = None,
) -> web.Response:
    """A problem document as an answer. `detail` is cleaned here: it may quote what came from outside."""
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=clean(detail, 512),
        code=code,
        hint=CODES[code].hint if hint is None else hint,
        docs=page_of(code),
        request=request_id,
        file=invalid.file if invalid else "",
        problems=tuple(invalid.problems) if invalid else (),
    )
    return web.Response(
        status=status,
        body=msgspec.json.encode(document),
        headers={**PLAIN, "Content-Type": CONTENT_TYPE, **(headers or {})},
    )


def problem_of(
    error: HomeportError, request_id: str = "", redact: Callable[[str], str] = str
) -> web.Response:
    """What the caller is told of an error of the house. `redact`: it may quote what the caller sent."""
    status, headers = 500, dict[str, str]()
    invalid: ConfigError | None = None
    match error:
        case ConfigError():
            status, invalid = 422, error
        case Refused():
            status, headers = error.status, error.headers
        case Unavailable():
            status, headers = 503, {"Retry-After": "10"}
        case Conflict():
            status = 409
        case StepFailed():
            status = _STEP_STATUS.get(error.code, 500)
    return problem(
        status, error.code, redact(error.message),
        hint=error.hint, headers=headers, request_id=request_id, invalid=invalid,
    )  # fmt: skip
